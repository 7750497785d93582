"""The attacker: adversarial speech made by voice conversion, to test the guard.

It imports ``speakerguard``, never the other way round.
"""
