"""Whether the words survived: what a small offline recogniser hears in source and attack.

PocketSphinx (Huggins-Daines et al. 2006, ICASSP) with the US English model of its package. It is
small and old: of the 400 words of 21 VCTK sentences whose text is known it gets 46 % wrong (41 %
where it is sure), and of synthesisers it understands little. So no text is taken for the truth. The
reference is its own transcript of the source, and where it is not sure of that, as with other
languages and heavy accents, there is none.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from speakerguard.sound.audio import SAMPLE_RATE, Waveform

# Natural log of a transcript's posterior, a second, that a reference needs. Of recordings of dev,
# the first 5 s of each, 27 of 48 in English reach it (16 of 20 of LibriSpeech and Common Voice, 7
# of 12 of VCTK, 4 of 16 by second-language speakers), and 2 of 30 in Portuguese.
SURE = -3.0
LEAST = 3  # words of a reference
_PEAK = 0.7  # full scale is 1; recordings are brought to it, so that their level does not matter
_PRONUNCIATION = re.compile(r"\(\d+\)$")  # "the(2)" is "the"


@dataclass(frozen=True)
class Transcript:
    """What was heard.

    Attributes:
        words: lower case.
        sureness: natural log of its posterior in the lattice of all that may have been said,
            divided by the recording's seconds; at most 0.
    """

    words: tuple[str, ...]
    sureness: float

    @property
    def understood(self) -> bool:
        """Whether it can be a reference."""
        return self.sureness >= SURE and len(self.words) >= LEAST


@dataclass(frozen=True)
class Words:
    """A transcript beside that of the source.

    Attributes:
        source, made: what was heard in each.
        errors: words put in, left out or changed, the fewest that explain ``made``.
        count: words of the source.
    """

    source: str
    made: str
    errors: int
    count: int

    @property
    def error_rate(self) -> float:
        """Errors a word of the source; above 1 where more was put in than was there."""
        return self.errors / self.count


def transcribe(waveform: Waveform) -> Transcript | None:
    """English words in float32 (n,) at 16 kHz; None where pocketsphinx is not installed.

    Takes a quarter of the recording's duration on a free core, and many times that where other
    programs keep the memory busy. The same samples give the same words.
    """
    decoder = _decoder()
    if decoder is None:
        return None
    peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-9)
    pcm = np.rint(waveform * (_PEAK * 32_767 / peak)).astype(np.int16)
    decoder.reinit_feat()  # forgets the means of what it heard before
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    if found is None:
        return Transcript((), -math.inf)
    words = tuple(_PRONUNCIATION.sub("", word) for word in found.hypstr.split())
    seconds = len(waveform) / SAMPLE_RATE
    return Transcript(words, math.log(max(found.prob, 1e-300)) / seconds)


def compare(source: Transcript | None, attack: Transcript | None) -> Words | None:
    """How many of the source's words are kept; None where it was not understood.

    >>> reference = Transcript(("the", "ferry", "leaves", "at", "nine"), -1.0)
    >>> compare(reference, Transcript(("a", "ferry", "leaves", "nine"), -2.0)).errors
    2
    >>> compare(Transcript(("fiery", "lever"), -6.0), reference) is None
    True
    """
    if source is None or attack is None or not source.understood:
        return None
    errors = distance(source.words, attack.words)
    return Words(" ".join(source.words), " ".join(attack.words), errors, len(source.words))


def distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Fewest words put in, left out or changed between two lists (Levenshtein 1966)."""
    row = list(range(len(hypothesis) + 1))
    for index, word in enumerate(reference, start=1):
        above, row = row, [index]
        for place, other in enumerate(hypothesis, start=1):
            changed = above[place - 1] + (word != other)
            row.append(min(changed, above[place] + 1, row[place - 1] + 1))
    return row[-1]


@functools.cache
def _decoder() -> Any:
    """The recogniser; loading it takes about a second."""
    try:
        from pocketsphinx import Decoder
    except ImportError:
        return None
    return Decoder(loglevel="FATAL", samprate=SAMPLE_RATE)
