"""Enrol, verify, identify: a voice becomes speech, an embedding, a score, a decision."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerguard.embedders import load as engines
from speakerguard.embedders.contract import Embedding
from speakerguard.errors import AudioError, NoSpeechError, NoSuchProfileError, UsageError
from speakerguard.network import checkpoint
from speakerguard.sound.audio import SAMPLE_RATE, AudioSource
from speakerguard.sound.sources import several
from speakerguard.sound.speech import Caution, Speech, load_speech
from speakerguard.verification import cautions, store_reader
from speakerguard.verification.answers import Comparison, Enrolment, Identification, Verification
from speakerguard.verification.cohort import cosines
from speakerguard.verification.countermeasure import Countermeasure, SecondOpinion
from speakerguard.verification.profile import Profile, clean_name, compatible
from speakerguard.verification.scoring import Scoring

if TYPE_CHECKING:
    from speakerguard.verification.calibration import CalibrationFile
    from speakerguard.verification.store import ProfileStore
    from speakerguard.verification.stream import Stream

MARGIN = 0.05  # by which the best profile must lead to be named


class Verifier:
    """A guard and its profiles.

    >>> import tempfile
    >>> from speakerguard.verification.store import ProfileStore
    >>> store = ProfileStore(tempfile.mkdtemp() + "/profiles.db")
    >>> "alice" in Verifier(store=store).store
    False

    Args:
        model: name of a shipped checkpoint, the folder of one, or a peer's name; None takes
            ``SPEAKERGUARD_MODEL``, else the most accurate, ``fused``.
        store: a profile store, its URL or path; None for the user's own.
        engine, threads: what runs the checkpoint; see :func:`speakerguard.embedders.load.load`.
        score_norm: set scores against the model's cohort of strangers; None does so where it has
            one, True insists, False takes plain cosines. See
            :mod:`speakerguard.verification.cohort`.
        countermeasure: name of one, or one itself, that must take speech for real, too, before it
            is accepted; see :mod:`speakerguard.verification.countermeasure`.

    Raises:
        CheckpointError: the model or the countermeasure is missing or damaged.
        UsageError: there is no countermeasure of this name.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        store: ProfileStore | str | os.PathLike[str] | None = None,
        engine: str | None = None,
        threads: int | None = None,
        score_norm: bool | None = None,
        countermeasure: Countermeasure | str | None = None,
    ) -> None:
        self.second_opinion = SecondOpinion(countermeasure)
        model = checkpoint.default() if model is None else model
        self.embedder = engines.load(model, engine, threads)
        self.model = self.embedder.name
        self.fingerprint = self.embedder.fingerprint
        self.scoring = Scoring(self.embedder.folder, self.fingerprint, score_norm)
        self._store = store
        self._made_of = model, engine, threads, score_norm, countermeasure

    def __reduce__(self) -> tuple[Any, ...]:
        """How it was made: another process loads the model and opens the store for itself."""
        model, *others = self._made_of
        return type(self), (model, self._store, *others)

    @property
    def store(self) -> ProfileStore:
        """The profiles; opened when first needed."""
        if self._store is None or isinstance(self._store, (str, os.PathLike)):
            from speakerguard.verification.store import ProfileStore

            made = ProfileStore(self._store)
            opened: ProfileStore = self.__dict__.setdefault("_opened", made)  # one for all threads
            self._store = opened
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

    def _crowd(self) -> store_reader.Crowd:
        """Everybody whom this model enrolled."""
        if self._store is None or isinstance(self._store, (str, os.PathLike)):
            found = store_reader.read_crowd(self._store, self.fingerprint, self.embedder.dimension)
            if found is not None:
                return found
        everybody = self.profiles()
        mine = [self._mine(p) for p in everybody if p.fingerprint == self.fingerprint]
        centroids = [profile.centroid for profile in mine]
        return store_reader.Crowd(
            names=[profile.name for profile in mine],
            centroids=np.stack(centroids) if mine else np.zeros((0, 0), np.float32),
            others=len(everybody) - len(mine),
        )

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
        return self.embed_speech([load_speech(source) for source in several(sources)])

    def embed_speech(self, speech: Sequence[Speech]) -> list[Embedding]:
        """L2-normalised embedding, float32 (dimension,), of each clip of speech.

        Raises:
            NoSpeechError: a clip holds less speech than the model needs.
        """
        for clip in speech:
            self.check_length(clip)
        return self.embedder.embed([clip.samples for clip in speech])

    def check_length(self, speech: Speech) -> None:
        """Raise NoSpeechError where a clip holds less speech than the model needs."""
        least = self.embedder.min_samples
        if len(speech.samples) < least:
            raise NoSpeechError(
                f"{speech.name}: {len(speech.samples) / SAMPLE_RATE:.1f} s of speech, but "
                f"{self.model} needs {least / SAMPLE_RATE:g}. Record more."
            )

    def enroll(
        self,
        name: str,
        sources: Sequence[AudioSource],
        replace: bool = False,
        add: bool = False,
        skip: bool = False,
    ) -> Enrolment:
        """Make a profile of ``name`` from one or more recordings and keep it.

        Args:
            replace: drop a profile of that name.
            add: put the recordings to the profile of that name, which there must be.
            skip: go on without recordings that cannot be used, with a warning for each.

        Raises:
            AudioError: a recording cannot be used, or with ``skip`` none; nothing is enrolled.
            CheckpointError: a cohort was insisted on, or is needed, and is missing or damaged.
            ProfileError: to ``add``, nobody of that name, or enrolled with other weights.
            UsageError: the name is taken, and neither is set; or both are.
        """
        name, sources = clean_name(name), list(several(sources))
        if not sources:
            raise UsageError("enrolment needs at least one recording.")
        if replace and add:
            raise UsageError("replace the profile or add to it: not both.")
        if self.scoring.normalise:  # insisted on, so it must be there, even if nothing is scored
            _ = self.scoring.cohort
        old = self.profile(name) if add else None
        speech, left_out = [], []
        for source in sources:
            try:
                clip = load_speech(source)
                self.check_length(clip)
            except AudioError as error:
                left_out.append(error)
                if not skip or len(left_out) == len(sources):
                    raise
            else:
                speech.append(clip)
        profile = Profile(
            name=name,
            fingerprint=self.fingerprint,
            embeddings=np.stack(self.embed_speech(speech)),
            net_seconds=tuple(clip.net_seconds for clip in speech),
            sources=tuple(Path(clip.name).name for clip in speech),
            created=datetime.now(UTC),
        )
        whole = old.extended(profile) if old else profile
        warnings = [*cautions.of_several(speech), *cautions.duplicates(whole)]
        if len(whole.embeddings) > 1 and self.scoring.calibrated:
            alike = float(self.compare(whole.embeddings, whole.others).min())
            warnings += cautions.of_disagreement(name, alike, self.calibration.point("eer"))
        warnings += cautions.of_name(name, self.store.names())
        if old:
            whole = self.store.extend(profile)
        else:
            self.store.add(profile, replace=replace)
        warnings += [Caution("left-out", str(error)) for error in left_out]
        if self.store.open_to_others():
            warnings.append(cautions.exposed(self.store.path))
        return Enrolment(whole, tuple(warnings))

    def verify(
        self,
        name: str,
        source: AudioSource | Speech,
        operating_point: str | float | None = None,
        channel: int | None = None,
    ) -> Verification:
        """Compare a recording, or the speech already found in one, with the profile of ``name``.

        Args:
            operating_point: a name, or a number: a threshold of one's own; as in :meth:`identify`.
            channel: the only one of the recording to listen to, from 1; None averages all.

        Raises:
            AudioError: the recording cannot be judged; there is no score.
            ProfileError: nobody of that name, or enrolled with other weights.
        """
        profile = self.profile(name)
        point = self.calibration.point(operating_point)
        speech = source if isinstance(source, Speech) else load_speech(source, channel=channel)
        (embedding,) = self.embed_speech([speech])
        score = self.scoring.score(profile.centroid, embedding)
        real = self.second_opinion.llr(speech)
        reason = point.objection(score) or self.second_opinion.objection(real)
        return Verification(
            speaker=profile.name,
            accepted=not reason,
            score=score,
            unit=self.scoring.unit,
            cosine=float(cosines(profile.centroid[None], embedding[None])[0]),
            llr=float(self.calibration.calibration.llr(score)),
            operating_point=point.name,
            threshold=point.threshold,
            net_seconds=speech.net_seconds,
            warnings=(*cautions.of_probe(speech), *cautions.of_replay(profile, embedding, speech)),
            reason=reason,
            real_speech_llr=real,
        )

    def compare_recordings(
        self,
        first: AudioSource,
        second: AudioSource,
        operating_point: str | float | None = None,
    ) -> Comparison:
        """Whether one voice speaks in two recordings, without a profile.

        Raises:
            AudioError: a recording cannot be judged; there is no score.
            UsageError: no such operating point.
        """
        point = self.calibration.point(operating_point)
        speech = load_speech(first), load_speech(second)
        embeddings = self.embed_speech(speech)
        score = self.scoring.score(*embeddings)
        cosine = float(embeddings[0] @ embeddings[1])
        real = self.second_opinion.llr(speech[0]), self.second_opinion.llr(speech[1])
        doubts = zip(speech, map(self.second_opinion.objection, real), strict=True)
        reason = point.objection(score) or "; ".join(f"{c.name}: {d}" for c, d in doubts if d)
        seconds = speech[0].net_seconds, speech[1].net_seconds
        warnings = [*cautions.of_several(speech)]
        if same := bool(cautions.same_recording(cosine, seconds[0] - seconds[1])):
            warnings.append(
                Caution("same-recording", "both sound like one recording, so they say nothing.")
            )
        return Comparison(
            first=speech[0].name,
            second=speech[1].name,
            accepted=not reason,
            score=score,
            unit=self.scoring.unit,
            cosine=cosine,
            llr=float(self.calibration.calibration.llr(score)),
            operating_point=point.name,
            threshold=point.threshold,
            same_recording=same,
            net_seconds=seconds,
            warnings=tuple(warnings),
            reason=reason,
            real_speech_llr=None if real[0] is None or real[1] is None else (real[0], real[1]),
        )

    def compare(
        self, enrol: npt.NDArray[np.float32], test: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """Scores (n,) of the trials between rows of ``enrol`` and ``test``, both (n, dimension)."""
        return self.scoring.compare(enrol, test)

    def stream(
        self,
        name: str,
        rate: int = SAMPLE_RATE,
        operating_point: str | float | None = None,
        channel: int | None = None,
    ) -> Stream[Verification]:
        """A claim judged while its recording grows; see :mod:`speakerguard.verification.stream`.

        Raises:
            NotAudioError: such a rate carries no speech.
            ProfileError: nobody of that name, or enrolled with other weights.
        """
        from speakerguard.verification.stream import Stream

        def ask(speech: Speech) -> Verification:
            return self.verify(name, speech, operating_point)

        stream = Stream(ask, rate, channel=channel)
        self.profile(name)  # refuses an unknown name before anybody speaks
        return stream

    def identify(
        self,
        source: AudioSource,
        operating_point: str | float | None = None,
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
        crowd = self._crowd()
        if not crowd.names:
            others = f"; {crowd.others} are with others" if crowd.others else ""
            raise NoSuchProfileError(
                f"nobody is enrolled with this model{others}: enrol someone first."
            )
        point = self.calibration.point(operating_point)
        speech = load_speech(source)
        (embedding,) = self.embed_speech([speech])
        probes = np.broadcast_to(embedding, crowd.centroids.shape)
        scores, plain = self.compare(crowd.centroids, probes), cosines(crowd.centroids, probes)
        order = np.argsort(-scores, kind="stable")
        ranking = tuple((crowd.names[i], float(scores[i])) for i in order)
        best, score = ranking[0]
        real = self.second_opinion.llr(speech)
        reason = (
            point.objection(score, "best score")
            or _too_close(ranking, margin)
            or self.second_opinion.objection(real)
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
            warnings=(
                *cautions.of_probe(speech),
                *cautions.of_replay(self.profile(best), embedding, speech),
                *cautions.of_others(crowd.others),
            ),
            real_speech_llr=real,
        )


def _too_close(ranking: Sequence[tuple[str, float]], margin: float) -> str:
    """Why the best of a ranking must not be named; empty where it leads by ``margin``."""
    if len(ranking) < 2 or ranking[0][1] - ranking[1][1] >= margin:
        return ""
    (best, score), (other, next_score) = ranking[:2]
    return f"{best} and {other} lie within {margin:g} of each other ({score:.3f}, {next_score:.3f})"
