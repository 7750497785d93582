"""Voices for a demonstration without any recording: speech made offline by eSpeak NG.

They are synthetic, and easier to tell apart than people are: what a guard reaches on them says
that it runs, not how good it is.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from speakerguard.errors import UsageError
from speakerguard.sound.audio import SAMPLE_RATE, Waveform

MIN_SECONDS, MAX_SECONDS = 4.0, 6.0
PEAK = 0.7  # full scale is 1

# espeak-ng/speak_lib.h, version 1.52
_SYNCHRONOUS, _CHARS_UTF8, _POSITION_CHARACTER = 2, 1, 1
_DO_NOT_EXIT = 0x8000  # when the voices are not found
_RATE, _PITCH, _RANGE = 1, 3, 4
_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True)
class Voice:
    """How one demo speaker speaks.

    Attributes:
        name: of the speaker's folder.
        espeak: accent and variant.
        pitch, range: 0 to 100, eSpeak's own scale.
        rate: words per minute.
        formants: factor on all resonances; above 1 is a shorter vocal tract.
    """

    name: str
    espeak: str
    pitch: int
    range: int
    rate: int
    formants: float


VOICES = (  # chosen so that CAM++ hears no two alike (mean cosines up to 0.51)
    Voice("ada", "en-gb-x-rp+f2", 50, 41, 162, 0.86),
    Voice("bruno", "en-us+grandpa", 39, 51, 168, 1.21),
    Voice("carla", "en-029+adam", 57, 69, 151, 1.03),
    Voice("dmitri", "en-029+Lee", 20, 21, 156, 1.20),
    Voice("elif", "en-us+marcelo", 75, 82, 170, 0.91),
    Voice("farid", "en-us+anika", 14, 63, 177, 1.14),
    Voice("greta", "en-029+f5", 52, 32, 178, 1.22),
    Voice("hugo", "en-gb-x-gbclan+Andrea", 61, 23, 157, 1.02),
)

SENTENCES = (
    "The ferry leaves at nine, and nobody hurries.",
    "My brother keeps bees behind the old school.",
    "Please put the blue cups on the upper shelf.",
    "It rained all week, so the path is gone.",
    "She reads the last page of every book first.",
    "We could hear the train long before it came.",
    "Their garden smells of thyme and wet stone.",
    "He forgot his keys on the kitchen table again.",
    "The lamp in the hall has a very yellow light.",
    "Ask the baker whether there is rye bread today.",
    "Four children were drawing a whale with chalk.",
    "A cold wind blew through the open window.",
)


def synthesise(folder: Path, speakers: int = 4, utterances: int = 4, seed: int = 0) -> list[Path]:
    """Write ``speaker/utterance.wav`` below ``folder``: 16 kHz, mono, 16 bits, 4 to 6 seconds.

    The same arguments give the same samples. No speaker says the same words twice.

    Args:
        folder: made if need be.
        speakers: 1 to 8, the number of :data:`VOICES`.
        utterances: of each speaker, 1 to 100.
        seed: decides who says what.

    Raises:
        UsageError: the synthesiser is not installed, or too many voices are asked for.
    """
    if not (1 <= speakers <= len(VOICES) and 1 <= utterances <= 100):
        raise UsageError(
            f"{speakers} speakers with {utterances} utterances: there are 1 to {len(VOICES)} demo "
            "speakers with 1 to 100 utterances each."
        )
    random = np.random.default_rng(seed)
    pairs = list(itertools.permutations(SENTENCES, 2))
    paths = []
    with Espeak() as espeak:
        for voice in VOICES[:speakers]:
            (folder / voice.name).mkdir(parents=True, exist_ok=True)
            for number, pair in enumerate(random.permutation(len(pairs))[:utterances], start=1):
                path = folder / voice.name / f"{number:03}.wav"
                waveform = espeak.say(" ".join(pairs[pair]), voice)
                soundfile.write(path, waveform, SAMPLE_RATE, subtype="PCM_16")
                paths.append(path)
    return paths


def variants() -> list[str]:
    """Names of the voice variants that eSpeak NG brings, in order.

    Raises:
        UsageError: the synthesiser is not installed.
    """
    return sorted(path.name for path in Path(_loader().get_data_path(), "voices", "!v").iterdir())


def _loader() -> Any:
    """The package that holds the library and its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise UsageError(
            "the demo voices need a speech synthesiser: pip install speakerguard[demo], or set "
            "SPEAKERGUARD_DATA to a folder of recordings (speaker/utterance)."
        ) from None
    return espeakng_loader


class Espeak:
    """The library, loaded anew: its voices keep state, so a used one would not repeat itself."""

    def __enter__(self) -> Espeak:
        espeakng_loader = _loader()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        original = Path(espeakng_loader.get_library_path())
        copy = shutil.copy(original, Path(self._folder.name) / original.name)
        self._library = ctypes.CDLL(str(copy))
        data = Path(self._folder.name) / "espeak-ng-data"
        try:
            data.symlink_to(espeakng_loader.get_data_path())  # paths over 160 bytes are cut off
        except OSError:  # Windows, without the privilege
            data = Path(espeakng_loader.get_data_path())
        self._rate = self._library.espeak_Initialize(
            _SYNCHRONOUS, 0, os.fsencode(data), _DO_NOT_EXIT
        )
        if self._rate <= 0:
            raise UsageError(
                f"eSpeak NG cannot read its voices in {data}: its path may be too long. Set "
                "SPEAKERGUARD_DATA to a folder of recordings (speaker/utterance) instead."
            )
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._heard: list[npt.NDArray[np.int16]] = []
        self._callback = _Callback(self._hear)  # kept: the library holds no reference
        self._library.espeak_SetSynthCallback(self._callback)
        return self

    def __exit__(self, *error: object) -> None:
        self._library.espeak_Terminate()
        self._folder.cleanup()

    def say(self, text: str, voice: Voice) -> Waveform:
        """``text`` in ``voice``, 16 kHz, between the shortest and the longest duration."""
        pace = 1.0
        while True:
            waveform = self._speak(text, voice, pace)
            seconds = len(waveform) / SAMPLE_RATE
            if MIN_SECONDS <= seconds <= MAX_SECONDS:
                return waveform * np.float32(PEAK / np.abs(waveform).max())
            pace *= 2 * seconds / (MIN_SECONDS + MAX_SECONDS)

    def _speak(self, text: str, voice: Voice, pace: float) -> Waveform:
        self._heard.clear()
        code = self._library.espeak_SetVoiceByName(voice.espeak.encode())
        # Played faster by the factor on the formants, so spoken slower by it.
        rate = round(voice.rate * pace / voice.formants)
        for parameter, value in ((_RATE, rate), (_PITCH, voice.pitch), (_RANGE, voice.range)):
            code |= self._library.espeak_SetParameter(parameter, value, 0)
        words = text.encode()
        size = ctypes.c_size_t(len(words) + 1)
        code |= self._library.espeak_Synth(
            words, size, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if code or not self._heard:
            raise UsageError(
                f"eSpeak NG cannot speak as {voice.espeak} (code {code}): "
                "pip install --upgrade --force-reinstall espeakng-loader"
            )
        speech = np.concatenate(self._heard).astype(np.float32) / 32_768
        waveform: Waveform = soxr.resample(speech, self._rate * voice.formants, SAMPLE_RATE)
        return waveform

    def _hear(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            self._heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
