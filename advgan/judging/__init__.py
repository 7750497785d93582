"""What a conversion reached."""
