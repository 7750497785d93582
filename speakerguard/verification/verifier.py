"""Enrol, verify, identify: a voice becomes speech, an embedding, a score, a decision."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from speakerguard.embedders import load as engines
from speakerguard.embedders.load import Embedding
from speakerguard.errors import NoSpeechError, NoSuchProfileError, UsageError
from speakerguard.network import checkpoint
from speakerguard.sound.audio import SAMPLE_RATE, AudioSource
from speakerguard.sound.speech import Speech, Warning, load_speech
from speakerguard.verification import store_reader
from speakerguard.verification.cohort import cosines
from speakerguard.verification.profile import Profile, clean_name, compatible
from speakerguard.verification.scoring import Scoring

if TYPE_CHECKING:
    from speakerguard.verification.calibration import CalibrationFile
    from speakerguard.verification.store import ProfileStore
    from speakerguard.verification.stream import Stream

SHORT_SPEECH = 2.0  # seconds of net speech below which error rates rise clearly
SAME_RECORDING = 0.9999  # cosine above which two utterances are one recording
MARGIN = 0.05  # by which the best profile must lead to be named


@dataclass(frozen=True)
class Verification:
    """The answer to: is this the voice it claims to be?

    Attributes:
        speaker: the claimed name.
        accepted: whether ``score >= threshold``.
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
    warnings: tuple[Warning, ...]


@dataclass(frozen=True)
class Identification:
    """The answer to: whose voice is this? ``speaker`` is None where nobody clearly fits.

    Attributes:
        ranking: profiles and their scores, best first.
        cosines: of the profiles in ``ranking``, in its order.
        unit: what scores are; see :class:`Verification`.
        threshold, margin: least score, and least lead over the next profile, in ``unit``.
        reason: why nobody was named; empty where somebody was.
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
    warnings: tuple[Warning, ...]


@dataclass(frozen=True)
class Enrolment:
    """What was enrolled, and what is worrying about it."""

    profile: Profile
    warnings: tuple[Warning, ...]


class Verifier:
    """A guard and its profiles.

    >>> import tempfile
    >>> from speakerguard.verification.store import ProfileStore
    >>> store = ProfileStore(tempfile.mkdtemp() + "/profiles.db")
    >>> "alice" in Verifier(store=store).store
    False

    Args:
        model: name of a shipped checkpoint, the folder of one, or a peer's name.
        store: a profile store, its URL or path; None for the user's own.
        engine, threads: what runs the checkpoint; see :func:`speakerguard.embedders.load.load`.
        score_norm: set scores against the model's cohort of strangers; None does so where it has
            one, True insists, False takes plain cosines. See
            :mod:`speakerguard.verification.cohort`.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = checkpoint.DEFAULT,
        store: ProfileStore | str | os.PathLike[str] | None = None,
        engine: str | None = None,
        threads: int | None = None,
        score_norm: bool | None = None,
    ) -> None:
        self.embedder = engines.load(model, engine, threads)
        self.model = self.embedder.name
        self.fingerprint = self.embedder.fingerprint
        self.scoring = Scoring(self.embedder.folder, self.fingerprint, score_norm)
        self._store = store

    @property
    def store(self) -> ProfileStore:
        """The profiles; opened when first needed."""
        if self._store is None or isinstance(self._store, (str, os.PathLike)):
            from speakerguard.verification.store import ProfileStore

            self._store = ProfileStore(self._store)
        return self._store

    def profile(self, name: str) -> Profile:
        """The profile of this name.

        Raises:
            ProfileError: nobody of that name, or enrolled with other weights.
            UsageError: ``name`` is unfit to be one.
        """
        name = clean_name(name)
        found = self._read(name)
        return self._mine(self.store.get(name) if found is None else found[0])

    def _mine(self, profile: Profile) -> Profile:
        return compatible(profile, self.fingerprint, self.embedder.dimension)

    def profiles(self) -> list[Profile]:
        """All profiles, whichever model made them, sorted by name."""
        found = self._read()
        return self.store.all() if found is None else found

    def _read(self, name: str | None = None) -> list[Profile] | None:
        """What can be had without opening the store; None: ask the store."""
        if self._store is None or isinstance(self._store, (str, os.PathLike)):
            return store_reader.read(self._store, name)
        return None

    @property
    def calibration(self) -> CalibrationFile:
        """Thresholds and likelihood ratios, as ``scoring`` reads them."""
        return self.scoring.calibration

    def embed(self, sources: Iterable[AudioSource]) -> list[Embedding]:
        """L2-normalised embedding, float32 (dimension,), of each recording."""
        return self.embed_speech([load_speech(source) for source in _several(sources)])

    def embed_speech(self, speech: Sequence[Speech]) -> list[Embedding]:
        """L2-normalised embedding, float32 (dimension,), of each clip of speech.

        Raises:
            NoSpeechError: a clip holds less speech than the model needs.
        """
        least = self.embedder.min_samples
        for clip in speech:
            if len(clip.samples) < least:
                raise NoSpeechError(
                    f"{clip.name}: {len(clip.samples) / SAMPLE_RATE:.1f} s of speech, but "
                    f"{self.model} needs {least / SAMPLE_RATE:g}. Record more."
                )
        return self.embedder.embed([clip.samples for clip in speech])

    def enroll(
        self, name: str, sources: Sequence[AudioSource], replace: bool = False, add: bool = False
    ) -> Enrolment:
        """Make a profile of ``name`` from one or more recordings and keep it.

        Args:
            replace: drop a profile of that name.
            add: put the recordings to the profile of that name, which there must be.

        Raises:
            AudioError: a recording cannot be used; nothing is enrolled.
            CheckpointError: a cohort was insisted on, or is needed, and is missing or damaged.
            ProfileError: to ``add``, nobody of that name, or enrolled with other weights.
            UsageError: the name is taken, and neither is set; or both are.
        """
        name, sources = clean_name(name), list(_several(sources))
        if not sources:
            raise UsageError("enrolment needs at least one recording.")
        if replace and add:
            raise UsageError("replace the profile or add to it: not both.")
        if self.scoring.normalise:  # insisted on, so it must be there, even if nothing is scored
            _ = self.scoring.cohort
        old = self.profile(name) if add else None
        speech = [load_speech(source) for source in sources]
        profile = Profile(
            name=name,
            fingerprint=self.fingerprint,
            embeddings=np.stack(self.embed_speech(speech)),
            net_seconds=tuple(clip.net_seconds for clip in speech),
            sources=tuple(Path(clip.name).name for clip in speech),
            created=datetime.now(UTC),
        )
        whole = old.extended(profile) if old else profile
        warnings = tuple(self._enrolment_warnings(whole, speech))
        if old:
            whole = self.store.extend(profile)
        else:
            self.store.add(profile, replace=replace)
        return Enrolment(whole, warnings)

    def verify(
        self, name: str, source: AudioSource | Speech, operating_point: str | None = None
    ) -> Verification:
        """Compare a recording, or the speech already found in one, with the profile of ``name``.

        Raises:
            AudioError: the recording cannot be judged; there is no score.
            ProfileError: nobody of that name, or enrolled with other weights.
        """
        profile = self.profile(name)
        point = self.calibration.point(operating_point)
        speech = source if isinstance(source, Speech) else load_speech(source)
        (embedding,) = self.embed_speech([speech])
        score = self.scoring.score(profile.centroid, embedding)
        return Verification(
            speaker=profile.name,
            accepted=point.accepts(score),
            score=score,
            unit=self.scoring.unit,
            cosine=float(cosines(profile.centroid[None], embedding[None])[0]),
            llr=float(self.calibration.calibration.llr(score)),
            operating_point=point.name,
            threshold=point.threshold,
            net_seconds=speech.net_seconds,
            warnings=tuple(_probe_warnings(speech)),
        )

    def compare(
        self, enrol: npt.NDArray[np.float32], test: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """Scores (n,) of the trials between rows of ``enrol`` and ``test``, both (n, dimension)."""
        return self.scoring.compare(enrol, test)

    def stream(
        self, name: str, rate: int = SAMPLE_RATE, operating_point: str | None = None
    ) -> Stream:
        """A recording to be judged while it grows; see :mod:`speakerguard.verification.stream`."""
        from speakerguard.verification.stream import Stream

        return Stream(self, name, rate, operating_point)

    def identify(
        self,
        source: AudioSource,
        operating_point: str | None = None,
        margin: float | None = None,
    ) -> Identification:
        """Name the enrolled speaker of a recording: the best must reach the threshold and lead.

        Args:
            margin: by which its score must lead; None is :data:`MARGIN`.

        Raises:
            AudioError: the recording cannot be judged.
            ProfileError: nobody is enrolled with this model, or somebody's profile is damaged.
            UsageError: the margin is negative or no finite number.
        """
        margin = MARGIN if margin is None else margin
        if not 0 <= margin < math.inf:  # nan is neither
            raise UsageError(f"a margin of {margin}: give a finite number from 0.")
        everybody = self.profiles()
        profiles = [self._mine(p) for p in everybody if p.fingerprint == self.fingerprint]
        if not profiles:
            others = f"; {len(everybody)} are with others" if everybody else ""
            raise NoSuchProfileError(
                f"nobody is enrolled with this model{others}: enrol someone first."
            )
        point = self.calibration.point(operating_point)
        speech = load_speech(source)
        (embedding,) = self.embed_speech([speech])
        centroids = np.stack([profile.centroid for profile in profiles])
        probes = np.repeat(embedding[None], len(centroids), axis=0)
        scores, plain = self.compare(centroids, probes), cosines(centroids, probes)
        order = np.argsort(-scores, kind="stable")
        ranking = tuple((profiles[i].name, float(scores[i])) for i in order)
        best, score = ranking[0]
        reason = ""
        if not point.accepts(score):
            reason = f"the best score, {score:.3f}, is under the threshold {point.threshold:.3f}"
        elif len(ranking) > 1 and score - ranking[1][1] < margin:
            reason = (
                f"{best} and {ranking[1][0]} lie within {margin:g} of each other "
                f"({score:.3f}, {ranking[1][1]:.3f})"
            )
        return Identification(
            speaker=None if reason else best,
            ranking=ranking,
            cosines=tuple(float(plain[i]) for i in order),
            unit=self.scoring.unit,
            operating_point=point.name,
            threshold=point.threshold,
            margin=margin,
            reason=reason,
            net_seconds=speech.net_seconds,
            warnings=(*_probe_warnings(speech), *_left_out(len(everybody) - len(profiles))),
        )

    def _enrolment_warnings(self, profile: Profile, speech: Sequence[Speech]) -> Iterable[Warning]:
        for clip in speech:
            for warning in _probe_warnings(clip):
                yield Warning(warning.code, f"{clip.name}: {warning.message}")
        alike = np.triu(profile.embeddings @ profile.embeddings.T, 1) > SAME_RECORDING
        if alike.any():
            first, second = (profile.sources[int(i)] for i in np.argwhere(alike)[0])
            yield Warning(
                "duplicate",
                f"{second} sounds exactly like {first}, and weighs as much again. Record other "
                "words.",
            )
        if len(profile.embeddings) < 2 or not self.scoring.calibrated:
            return
        score = float(self.compare(profile.embeddings, profile.others).min())
        eer = self.calibration.point("eer")
        if not eer.accepts(score):
            yield Warning(
                "disagreement",
                f"the recordings disagree: one scores {score:.3f} against the others, under the "
                f"{eer.threshold:.3f} at which two clips count as one speaker. Check that all are "
                f"of {profile.name}.",
            )


def _several(sources: Iterable[AudioSource]) -> Iterable[AudioSource]:
    """``sources``, unless it is one recording, whose parts would be taken for several.

    Raises:
        UsageError: it is one.
    """
    single = isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview))
    pair = isinstance(sources, tuple) and len(sources) == 2 and isinstance(sources[0], np.ndarray)
    if single or pair or hasattr(sources, "read"):
        raise UsageError("several recordings are asked for here: give a list, even of one.")
    return sources


def _probe_warnings(speech: Speech) -> Iterable[Warning]:
    yield from speech.warnings
    if speech.net_seconds < SHORT_SPEECH:
        yield Warning(
            "short-speech",
            f"only {speech.net_seconds:.1f} s of speech; {SHORT_SPEECH:.0f} s or more are safer.",
        )


def _left_out(others: int) -> Iterable[Warning]:
    if others:
        yield Warning(
            "other-models",
            f"{others} profiles were made by other models and not compared: enrol them again.",
        )
