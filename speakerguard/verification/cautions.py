"""What lowers trust in an answer, besides the recording itself: warnings for who decides."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerguard.sound.audio import printable
from speakerguard.sound.speech import Caution, Speech
from speakerguard.verification.profile import Profile

if TYPE_CHECKING:
    from speakerguard.verification.calibration import OperatingPoint

SHORT_SPEECH = 2.0  # seconds of net speech below which error rates rise clearly
SAME_RECORDING = 0.995  # cosine above which two utterances are one recording
SAME_IF_AS_LONG = 0.97  # likewise, where both hold as much speech, to SAME_LENGTH seconds
SAME_LENGTH = 0.033


def same_recording(cosine: Any, seconds: Any) -> npt.NDArray[np.bool_]:
    """Whether utterances of these cosines, whose speech differs by so many seconds, are one.

    Of 134,581 pairs of different recordings none is
    taken for one; of 792 pairs in which one speaker says the same digits into one microphone, 21.
    The same recording is always noticed as it is; quieter in nine of ten cases, louder, resampled
    or as Opus in seven to eight, as Vorbis in six, as MP3 in three. One that was played to a
    microphone, cut, sent over a telephone or put in noise is mostly not.
    """
    as_long = np.abs(seconds) < SAME_LENGTH
    return np.asarray(cosine > np.where(as_long, SAME_IF_AS_LONG, SAME_RECORDING))


def of_replay(
    profile: Profile, embedding: npt.NDArray[np.float32], speech: Speech
) -> Iterable[Caution]:
    """A warning where a probe is a recording that was enrolled."""
    apart = np.array(profile.net_seconds) - speech.net_seconds
    alike = same_recording(profile.embeddings @ embedding, apart)
    if alike.any():
        source = printable(profile.sources[int(np.argmax(alike))])
        yield Caution(
            "same-recording",
            f"sounds exactly like {source}, which is enrolled: to a login that is a replay.",
        )


def duplicates(profile: Profile) -> Iterable[Caution]:
    """A warning where one recording was enrolled twice."""
    seconds = np.array(profile.net_seconds)
    apart = seconds[:, None] - seconds
    alike = np.triu(same_recording(profile.embeddings @ profile.embeddings.T, apart), 1)
    if alike.any():
        first, second = (printable(profile.sources[int(i)]) for i in np.argwhere(alike)[0])
        yield Caution(
            "duplicate",
            f"{second} sounds exactly like {first}, and weighs as much again. Record other words.",
        )


def of_probe(speech: Speech) -> Iterable[Caution]:
    """What is worrying about a recording that is judged or enrolled."""
    yield from speech.warnings
    if speech.net_seconds < SHORT_SPEECH:
        yield Caution(
            "short-speech",
            f"only {speech.net_seconds:.1f} s of speech; {SHORT_SPEECH:.0f} s or more are safer.",
        )


def of_several(speech: Iterable[Speech]) -> Iterable[Caution]:
    """The same of several recordings, each by its name."""
    for clip in speech:
        for warning in of_probe(clip):
            yield Caution(warning.code, f"{clip.name}: {warning.message}")


def of_disagreement(name: str, score: float, eer: OperatingPoint) -> Iterable[Caution]:
    """A warning where the recordings enrolled for ``name`` do not sound like one speaker.

    Args:
        score: the lowest of one of them against the others.
        eer: where both errors are as frequent.
    """
    if not eer.accepts(score):
        yield Caution(
            "disagreement",
            f"the recordings disagree: one scores {score:.3f} against the others, under the "
            f"{eer.threshold:.3f} at which two clips count as one speaker. Check that all are "
            f"of {name}.",
        )


def of_name(name: str, enrolled: Iterable[str]) -> Iterable[Caution]:
    """A warning where a name looks like that of somebody else who is enrolled."""
    from speakerguard.verification.lookalikes import look_alike

    if alike := look_alike(name, enrolled):
        listed = " and ".join(f"“{printable(other)}” ({other!a})" for other in alike[:3])
        yield Caution(
            "similar-name",
            f"“{name}” ({name!a}) looks like {listed}, another profile: check who is meant.",
        )


def exposed(path: Path | None) -> Caution:
    """The warning that others can read the voices in a store's file."""
    return Caution(
        "open-store",
        f"other users of this machine can read the voices in {printable(path)}: chmod 600 it.",
    )


def of_others(others: int) -> Iterable[Caution]:
    """A warning where so many profiles are of other models."""
    if others:
        yield Caution(
            "other-models",
            f"{others} profiles were made by other models and not compared: enrol them again.",
        )
