"""Ways to be taken for somebody else, behind one contract: :class:`advgan.attacks.contract.Attack`.

An attack is a class and a line: the entry-point group ``speakerguard.attacks`` names it, in this
package's pyproject.toml or in anybody's.
"""
