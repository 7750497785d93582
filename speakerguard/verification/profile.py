"""One enrolled voice: every utterance's embedding, and the fingerprint of what made them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from speakerguard.errors import IncompatibleProfileError, UsageError

MAX_NAME = 200  # characters
_UNSHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories
_JOINERS = "\u200c\u200d"  # shape what they stand between: Arabic, Indic, emoji
_JOINED = {"Lo", "Mn", "Mc", "Me", "So", "Sk"}  # letters without case among them, others never are


@dataclass(frozen=True, eq=False)
class Profile:
    """One enrolled voice.

    Attributes:
        name: NFC, stripped, 1 to 200 characters of any script.
        fingerprint: of the model that made the embeddings.
        embeddings: float32 (utterances, dimension), each row of length 1.
        net_seconds: seconds of speech in each utterance.
        sources: base name of each utterance's file.
        created: when, in UTC.

    Raises:
        UsageError: the name is unfit, or the parts do not fit one another.

    >>> voice = Profile("Zoë", "c0ffee", np.eye(2, 4), (2.5, 3.0), ("a.wav", "b.wav"))
    >>> voice.centroid.shape, voice.cohesion()
    ((4,), 0.0)
    """

    name: str
    fingerprint: str
    embeddings: npt.NDArray[np.float32]
    net_seconds: tuple[float, ...]
    sources: tuple[str, ...]
    created: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        embeddings = np.array(self.embeddings, dtype=np.float32, order="C")
        embeddings.setflags(write=False)
        sources = (source.encode("utf-8", "backslashreplace").decode() for source in self.sources)
        object.__setattr__(self, "name", clean_name(self.name))
        object.__setattr__(self, "embeddings", embeddings)
        object.__setattr__(self, "net_seconds", tuple(map(float, self.net_seconds)))
        object.__setattr__(self, "sources", tuple(sources))
        object.__setattr__(self, "created", self.created.astimezone(UTC))
        if embeddings.ndim != 2 or 0 in embeddings.shape:
            problem = f"embeddings of shape {embeddings.shape}, not (utterances, dimension)"
        elif not len(embeddings) == len(self.net_seconds) == len(self.sources):
            problem = "a different number of embeddings, durations and sources"
        elif not (np.isfinite(self.net_seconds).all() and min(self.net_seconds) >= 0):
            problem = "a duration that is no number from 0"
        elif not np.allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=0, atol=1e-3):
            problem = "an embedding whose length is not 1"
        else:
            return
        raise UsageError(f"profile “{self.name}” has {problem}: enrol it again.")

    def extended(self, more: Profile) -> Profile:
        """This voice with the utterances of ``more`` behind its own."""
        return replace(
            self,
            embeddings=np.concatenate([self.embeddings, more.embeddings]),
            net_seconds=self.net_seconds + more.net_seconds,
            sources=self.sources + more.sources,
        )

    def without(self, place: int) -> Profile:
        """This voice with one utterance less: that at ``place``, from 0."""
        kept = [index for index in range(len(self.sources)) if index != place]
        return replace(
            self,
            embeddings=self.embeddings[kept],
            net_seconds=tuple(self.net_seconds[index] for index in kept),
            sources=tuple(self.sources[index] for index in kept),
        )

    @property
    def centroid(self) -> npt.NDArray[np.float32]:
        """Mean of the embeddings, scaled to length 1: float32 (dimension,)."""
        return centroid(self.embeddings)

    def cohesion(self) -> float | None:
        """Smallest cosine between an utterance and the mean of the others; None for one alone."""
        if len(self.embeddings) < 2:
            return None
        return float(np.einsum("nd,nd->n", self.embeddings, self.others).min())

    @property
    def others(self) -> npt.NDArray[np.float32]:
        """For each utterance the mean of the others, scaled to length 1: (n, dimension)."""
        return np.stack([_unit(row) for row in self.embeddings.sum(axis=0) - self.embeddings])


def centroid(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What a probe is compared with: the mean of embeddings (n, D), scaled to length 1: (D,)."""
    return _unit(embeddings.mean(axis=0))


def compatible(profile: Profile, fingerprint: str, dimension: int | None = None) -> Profile:
    """``profile`` itself, if the model of this ``fingerprint`` made it.

    Args:
        dimension: values in the model's embeddings, where that is known.

    Raises:
        IncompatibleProfileError: other weights made it; cosines with it mean nothing. Or it is
            damaged.
    """
    if profile.fingerprint == fingerprint:
        if dimension in (None, profile.embeddings.shape[1]):
            return profile
        raise IncompatibleProfileError(
            f"“{profile.name}” is damaged: its embeddings have {profile.embeddings.shape[1]} "
            f"values, those of model {fingerprint} have {dimension}. Remove and enrol it again."
        )
    raise IncompatibleProfileError(
        f"“{profile.name}” was enrolled with model {profile.fingerprint}; the current model is "
        f"{fingerprint}: enrol again, or use --model to name the model of the profile."
    )


def clean_name(name: str) -> str:
    """``name`` in NFC and stripped, the form in which names are kept and compared.

    Raises:
        UsageError: it is no text, empty, too long, or holds characters that cannot be shown on a
            line or would show it as another.

    >>> clean_name(" Zoe\\u0308 ")
    'Zoë'
    """
    if not isinstance(name, str):
        raise UsageError(f"a name is text, not {name!r}: say whose voice it is.")
    clean = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(clean) <= MAX_NAME:
        raise UsageError(f"a name has 1 to {MAX_NAME} characters, not {len(clean)}: choose one.")
    kinds = [unicodedata.category(character) for character in clean]
    around = zip(clean, kinds, ["", *kinds], [*kinds[1:], ""], strict=False)
    if any(
        kind in _UNSHOWN and not (character in _JOINERS and {before, after} <= _JOINED)
        for character, kind, before, after in around
    ):
        raise UsageError(
            f"the name {clean!a} holds control, invisible or undecodable characters: omit them."
        )
    if not any(kind[0] in "LNPS" for kind in kinds):
        raise UsageError(f"the name {clean!a} has no character that can be seen: choose another.")
    return clean


def _unit(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = np.linalg.norm(vector)
    return (vector / length if length > 0 else vector).astype(np.float32)
