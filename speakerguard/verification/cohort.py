"""Adaptive score normalisation: how much more alike than to the most similar strangers?

A cosine of 0.6 says little of a voice that resembles everybody, and much of one that resembles
nobody. AS-norm (Matějka et al., Analysis of score normalization, Interspeech 2017) measures each
side of a trial against the cohort members nearest to it: their mean cosine is taken away, and the
rest divided by their deviation. The division is left out here: a hundred cosines say little about
a deviation, and on ``dev`` dividing cost errors (3.3 % EER instead of 2.8, every source alike).

The cohort is one embedding for each of some hundred speakers who are neither enrolled nor judged;
it belongs to one model. Its file states the digest of what it holds.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from speakerguard import seal
from speakerguard.errors import CheckpointError, UsageError
from speakerguard.files import whole_file
from speakerguard.network.checkpoint import as_os_error, read_tensors

COHORT_FILE = "cohort.safetensors"
FORMAT = "speakerguard-cohort-1"
NEAREST = 100  # cohort members that say what is usual for a voice
LENGTH_ERROR = 0.01  # of an embedding that was kept in half precision, at most
_ROWS = 8_192  # trials normalised at once, so that long lists need no more memory
_AGAIN = "Make it again with `speakerguard cohort`, or do without: --no-score-norm."

Matrix = npt.NDArray[np.float32]


def cosines(enrol: Matrix, test: Matrix) -> npt.NDArray[np.float64]:
    """Cosines (n,) between rows of two matrices (n, D) whose rows have length 1."""
    return np.einsum("nd,nd->n", enrol, test, dtype=np.float64)


class Cohort:
    """Strangers to compare with.

    Args:
        embeddings: float32 (n, D), each of length 1.
        model: fingerprint of the model that made them.

    Raises:
        UsageError: fewer than two.

    >>> strangers = Cohort(np.eye(3, dtype=np.float32), "model")
    >>> voice = np.array([[0.6, 0.8, 0.0]], np.float32)
    >>> strangers.normalise(voice, voice).round(2).tolist()
    [0.53]
    """

    def __init__(self, embeddings: Matrix, model: str) -> None:
        if len(embeddings) < 2:
            raise UsageError(f"a cohort needs two speakers or more, not {len(embeddings)}.")
        self.embeddings, self.model = embeddings, model

    @property
    def fingerprint(self) -> str:
        """SHA-256 of how scores are normalised, and of what :meth:`save` keeps; 8 hex digits."""
        how = f"above the mean of {NEAREST}".encode()
        return sha256(how + self.embeddings.astype(np.float16).tobytes()).hexdigest()[:8]

    @classmethod
    def load(cls, path: Path, model: str | None = None, sealed: bool = True) -> Cohort:
        """Read what :meth:`save` wrote.

        Args:
            model: fingerprint of the model it must belong to; None takes any.
            sealed: False takes a file without digest as well, as earlier versions wrote it.

        Raises:
            CheckpointError: missing, damaged, or of another model than ``model``.
        """
        try:
            about, stored = read_tensors(path, "np", _AGAIN)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: this model has no cohort. {_AGAIN}") from None
        if about.get("format") != FORMAT or "embeddings" not in stored:
            raise CheckpointError(f"{path}: not a cohort of this program's. {_AGAIN}")
        if model not in (None, about.get("model")):
            raise CheckpointError(
                f"{path} belongs to weights {about.get('model')}, these are {model}. {_AGAIN}"
            )
        if problem := _problem(stored["embeddings"]):
            raise CheckpointError(f"{path}: its embeddings are {problem}. {_AGAIN}")
        digest = about.get("digest")
        if digest is None and sealed:
            raise CheckpointError(f"{path}: {seal.UNSEALED} {_AGAIN}")
        if digest not in (None, _digest(about.get("model", ""), stored["embeddings"])):
            raise CheckpointError(f"{path}: {seal.DAMAGED} {_AGAIN}")
        return cls(stored["embeddings"].astype(np.float32), about.get("model", ""))

    def save(self, path: Path) -> None:
        """Write the cohort, in half precision; the file appears whole or not at all."""
        from safetensors.numpy import save_file

        kept = self.embeddings.astype(np.float16)
        about = {"format": FORMAT, "model": self.model, "digest": _digest(self.model, kept)}
        with whole_file(path) as part, as_os_error():
            save_file({"embeddings": kept}, part, metadata=about)

    def normalise(self, enrol: Matrix, test: Matrix) -> npt.NDArray[np.float64]:
        """Scores (n,) of the trials between rows of ``enrol`` (n, D) and ``test`` (n, D).

        By how much a trial's cosine exceeds the mean cosine of either side with its
        :data:`NEAREST` nearest cohort members, as the mean of both sides.

        Raises:
            CheckpointError: the strangers' embeddings have another dimension.
        """
        if enrol.shape[1] != self.embeddings.shape[1]:
            raise CheckpointError(
                f"the cohort's embeddings have {self.embeddings.shape[1]} values, those of model "
                f"{self.model} have {enrol.shape[1]}. {_AGAIN}"
            )
        scores = np.empty(len(enrol))
        one = len(test) > 1 and test.strides[0] == 0  # one probe against all, broadcast
        usual = self._usual(test[:1]) if one else None
        for start in range(0, len(enrol), _ROWS):
            part = slice(start, start + _ROWS)
            cosine = cosines(enrol[part], test[part])
            of_test = self._usual(test[part]) if usual is None else usual
            scores[part] = cosine - (self._usual(enrol[part]) + of_test) / 2
        return scores

    def _usual(self, embeddings: Matrix) -> npt.NDArray[np.float64]:
        """Mean (n,) of the cosines with the nearest members."""
        cosines = (embeddings @ self.embeddings.T).astype(np.float64)
        count = min(NEAREST, cosines.shape[1])
        nearest = np.partition(cosines, -count, axis=1)[:, -count:]
        return nearest.mean(axis=1, dtype=np.float64)


def _digest(model: str, embeddings: npt.NDArray[np.generic]) -> str:
    """SHA-256 of stored embeddings, and of what they are, in hex."""
    what = json.dumps([model, str(embeddings.dtype), embeddings.shape])
    return sha256(what.encode() + embeddings.tobytes()).hexdigest()


def _problem(embeddings: npt.NDArray[np.generic]) -> str:
    """What keeps stored values from being strangers' embeddings; empty where nothing does."""
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f":
        return f"{embeddings.dtype} of shape {embeddings.shape}, not floats (speakers, dimension)"
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) <= LENGTH_ERROR).all():  # nan is not
        return "not of length 1"
    return "" if (embeddings != embeddings[:1]).any() else "not of two different speakers or more"
