"""Who speaks in a recording, by its name, and a few of many."""

import pytest

from speakerguard.sound.corpus import source_of, speaker_of, spread


@pytest.mark.parametrize(
    ("utterance", "speaker", "source"),
    [
        (r"vctk\p227\p227_001.wav", "vctk/p227", "vctk"),
        ("vctk/p227/p227_001.opus", "vctk/p227", "vctk"),
        ("dev/vctk/p227/p227_001.opus", "dev/vctk/p227", "dev"),
        ("/data/vctk/p227/p227_001.opus", "data/vctk/p227", "data"),
        ("p227/p227_001.wav", "p227", ""),
        ("19/198/19-198-0001.flac", "19", ""),
        ("train-clean-100/19/198/19-198-0001.flac", "train-clean-100/19", "train-clean-100"),
        ("librispeech/1334/1334-135589-0000.opus", "librispeech/1334", "librispeech"),
        ("id10270/x6uYqmx31kE/00001.wav", "id10270", ""),
        ("wav/id10270/x6uYqmx31kE/00001.wav", "wav/id10270", "wav"),
        ("id00800/singing-01-002.flac", "id00800", ""),
        ("test/id00800-singing-01-002.wav", "id00800", ""),
        ("id00800-enroll", "id00800", ""),
        ("id10270-x6uYqmx31kE-00001", "id10270", ""),
        ("LA_0015", "LA_0015", ""),
        ("-x", "-x", ""),
    ],
)
def test_the_speaker_is_in_the_name(utterance: str, speaker: str, source: str) -> None:
    assert speaker_of(utterance) == speaker
    assert source_of(utterance) == source


def test_a_long_list_is_thinned_evenly() -> None:
    recordings = [f"{i}" for i in range(300)]
    assert spread(recordings, 3) == ["0", "100", "200"]
    assert spread(recordings[:2], 3) == recordings[:2]
