"""What counts as another program, and what runs again for it."""

from advgan.report.programs import code_of, meaning, reached

PROGRAM = '''"""One."""

RATE = 2  # Hz
"""Said below."""


def double(value: int) -> int:
    """Twice as much."""
    return RATE * value
'''


def test_only_what_a_program_does_counts() -> None:
    other = PROGRAM.replace("Twice", "2 times").replace("  # Hz", "").replace("\n\n\n", "\n")
    assert other != PROGRAM
    assert meaning(other) == meaning(PROGRAM)
    assert meaning(PROGRAM.replace("RATE = 2", "RATE = 3")) != meaning(PROGRAM)
    assert "pass" in meaning('class Empty:\n    """Nothing."""')


def test_a_judge_is_all_that_it_imports_and_no_more() -> None:
    judging = reached(["advgan.report.bench"])
    assert {"advgan.report.bench", "advgan.victim.claim", "advgan.victim.defences"} <= judging
    assert {"speakerguard.verification.verifier", "speakerguard.sound.speech"} <= judging
    assert not {"advgan.report.page", "advgan.report.policy", "advgan.attacks.queries"} & judging
    attack = reached(["advgan.conversion.attacks"])
    assert {"advgan", "advgan.conversion", "advgan.networks.vocoder"} <= attack
    assert "advgan.attacks.queries" not in attack


def test_what_cannot_be_found_has_no_program() -> None:
    assert reached(["nowhere.to.be.found"]) == set()
    assert code_of(["advgan.pairs"]) == code_of(["advgan.pairs", "nowhere"]) != code_of([])
