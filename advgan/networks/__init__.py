"""From mel to mel to sound."""
