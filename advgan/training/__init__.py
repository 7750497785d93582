"""How the attacker learns."""
