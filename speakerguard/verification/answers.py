"""What :class:`speakerguard.verification.verifier.Verifier` answers."""

from __future__ import annotations

from dataclasses import dataclass

from speakerguard.sound.speech import Caution
from speakerguard.verification.profile import Profile


@dataclass(frozen=True)
class Verification:
    """The answer to: is this the voice it claims to be?

    Attributes:
        speaker: the claimed name.
        accepted: whether ``score >= threshold``, and a countermeasure, if one is asked, takes it
            for real speech.
        score: how alike probe and profile are, in ``unit``.
        unit: ``cosine above strangers``: by how much the cosine between probe and profile exceeds
            that of each of them with the strangers most similar to it; or ``cosine``, where the
            model has no strangers to compare with.
        cosine: between probe and profile, in [-1, 1].
        llr: natural-log likelihood ratio of same against different speaker.
        operating_point: name of the threshold used.
        threshold: of the score.
        net_seconds: speech in the probe, in seconds.
        warnings: what lowers trust in the answer.
        reason: why it was not accepted; empty where it was.
        real_speech_llr: natural-log likelihood ratio of real against made speech, as the
            countermeasure says; None where none is asked.
    """

    speaker: str
    accepted: bool
    score: float
    unit: str
    cosine: float
    llr: float
    operating_point: str
    threshold: float
    net_seconds: float
    warnings: tuple[Caution, ...]
    reason: str = ""
    real_speech_llr: float | None = None


@dataclass(frozen=True)
class Comparison:
    """The answer to: is one voice speaking in both recordings?

    Attributes:
        first, second: what the recordings are called.
        accepted, score, unit, cosine, llr, operating_point, threshold: as in :class:`Verification`.
        same_recording: whether both seem to be one recording, rather than two of one voice.
        net_seconds, real_speech_llr: of the first and the second; see :class:`Verification`.
        warnings, reason: likewise.
    """

    first: str
    second: str
    accepted: bool
    score: float
    unit: str
    cosine: float
    llr: float
    operating_point: str
    threshold: float
    same_recording: bool
    net_seconds: tuple[float, float]
    warnings: tuple[Caution, ...]
    reason: str = ""
    real_speech_llr: tuple[float, float] | None = None


@dataclass(frozen=True)
class Identification:
    """The answer to: whose voice is this? ``speaker`` is None where nobody clearly fits.

    Attributes:
        ranking: profiles and their scores, best first.
        cosines: of the profiles in ``ranking``, in its order.
        unit: what scores are; see :class:`Verification`.
        threshold, margin: least score, and least lead over the next profile, in ``unit``.
        reason: why nobody was named; empty where somebody was.
        real_speech_llr: see :class:`Verification`.
    """

    speaker: str | None
    ranking: tuple[tuple[str, float], ...]
    cosines: tuple[float, ...]
    unit: str
    operating_point: str
    threshold: float
    margin: float
    reason: str
    net_seconds: float
    warnings: tuple[Caution, ...]
    real_speech_llr: float | None = None


@dataclass(frozen=True)
class Enrolment:
    """What was enrolled, and what is worrying about it."""

    profile: Profile
    warnings: tuple[Caution, ...]
