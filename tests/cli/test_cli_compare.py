"""Two files without an enrolment; and what tells that both are one recording."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speakerguard.sound.audio import read
from speakerguard.verification.cautions import same_recording
from speakerguard.verification.verifier import Verifier

pytest_plugins = ["support.calling"]
Clips = dict[str, list[Path]]


def test_two_files_are_compared(run: Any, speech: Clips, tiny_model: Path) -> None:
    own, other, *_ = speech.values()
    ran = run("compare", own[0], other[0], "--json", "--threshold", 0.5)
    answer = json.loads(ran.out)
    guard = Verifier(tiny_model)
    first, second = guard.embed([own[0], other[0]])
    assert answer["cosine"] == pytest.approx(float(first @ second), abs=1e-5)
    assert answer["score"] == pytest.approx(answer["cosine"], abs=1e-5)
    assert answer["llr"] == pytest.approx(guard.calibration.calibration.llr(answer["score"]))
    assert (answer["operating_point"], answer["threshold"]) == ("custom", 0.5)
    assert (answer["decision"], ran.code) == (("accept", 0) if answer["score"] >= 0.5
                                              else ("reject", 1))  # fmt: skip
    assert (answer["first"], answer["second"]) == (str(own[0]), str(other[0]))
    assert len(answer["net_seconds"]) == 2
    refused = run("compare", own[0], other[0], "--threshold", 1.1)
    assert (refused.code, refused.out.startswith("REJECT  ")) == (1, True)
    assert "threshold +1.100 (custom)" in refused.out
    assert run("compare", own[0], other[0], "--point", "eer", "--json").code in (0, 1)
    both = run("compare", own[0], other[0], "--point", "eer", "--threshold", 1)
    assert (both.code, both.out) == (2, "")
    assert run("compare", own[0], "absent.wav").code == 2


def test_the_same_recording_is_told(run: Any, speech: Clips) -> None:
    own, *_ = speech.values()
    samples = read(own[0])
    soundfile.write("quiet.wav", samples / 4, 16_000)
    for second in (own[0], "quiet.wav"):
        answer = json.loads(run("compare", own[0], second, "--json").out)
        assert (answer["decision"], answer["same_recording"]) == ("accept", True)
    assert "same-recording" in run("compare", own[0], own[0]).out


def test_a_probe_that_was_enrolled_is_told(run: Any, speech: Clips, tiny_model: Path) -> None:
    own, *_ = speech.values()
    run("enroll", "alice", *own[:2])
    for command in (("verify", "alice"), ("identify",)):
        said = json.loads(run(*command, own[1], "--json").out)["warnings"]
        (warning,) = (one for one in said if one["code"] == "same-recording")
        assert "which is enrolled: to a login that is a replay" in warning["message"]
    guard = Verifier(tiny_model)
    heard = guard.stream("alice")
    heard.add(read(own[1]))
    assert "same-recording" in {warning.code for warning in heard.finish().warnings}


def test_when_two_utterances_are_one() -> None:
    cosines, apart = np.array([0.996, 0.98, 0.98, 0.96]), np.array([1.0, 0.032, -0.064, 0.0])
    assert same_recording(cosines, apart).tolist() == [True, True, False, False]


def test_honest_second_recordings_are_not_taken_for_the_first(shared: Path) -> None:
    guard = Verifier("guard")
    for speaker in ("vctk/p227", "speechocean762/so762_9600"):
        clips = sorted((shared / "corpus" / "dev" / speaker).iterdir())[:6]
        rows = np.stack(guard.embed(clips))
        alike = np.triu(same_recording(rows @ rows.T, np.zeros((len(rows), len(rows)))), 1)
        assert not alike.any()
