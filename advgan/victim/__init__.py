"""The verifier as an attacker meets it."""
