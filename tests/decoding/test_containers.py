"""What is whole is read whole, whatever its header says; what is cut off is refused."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.recordings import (
    apart,
    ape_tag,
    bare_mp3,
    edited,
    encode,
    id3_tag,
    pages,
    tone,
    variable_mp3,
    without_end_mark,
)

from speakerguard.decoding import flac, mpeg
from speakerguard.decoding.pieces import Pieces, patched
from speakerguard.errors import EmptyAudioError, NotAudioError, TruncatedAudioError
from speakerguard.sound.audio import open_recording, read

PCM = [
    *(("WAV", kind) for kind in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("W64", "FLOAT")),
    *(("AIFF", "PCM_16"), ("AIFF", "ULAW"), ("SVX", "PCM_16"), ("AU", "PCM_16"), ("AU", "ULAW")),
    *(("NIST", "PCM_16"), ("NIST", "ULAW"), ("CAF", "PCM_16"), ("CAF", "ALAC_16")),
    *(("VOC", "PCM_16"), ("AVR", "PCM_16"), ("MPC2K", "PCM_16"), ("HTK", "PCM_16")),
    *(("MAT4", "PCM_16"), ("MAT4", "DOUBLE"), ("MAT5", "PCM_U8"), ("MAT5", "FLOAT")),
]


def noted(data: bytes) -> tuple[float, list[str]]:
    """Seconds that are read, and the codes of what is worth a warning."""
    recording = open_recording(data)
    seconds = sum(map(len, recording.blocks())) / 16_000
    return seconds, list(recording.notes)


@pytest.mark.parametrize("kind", PCM, ids="-".join)
def test_a_file_that_is_cut_off_is_refused_in_every_format_that_states_a_length(
    kind: tuple[str, str],
) -> None:
    data = encode(*kind)
    assert noted(data) == (pytest.approx(2.0, abs=0.05), [])
    for cut in (len(data) // 10, len(data) // 2, len(data) * 9 // 10, len(data) - 2):
        with pytest.raises((TruncatedAudioError, NotAudioError)):
            read(data[:cut])


@pytest.mark.parametrize("kind", ["PAF", "PVF", "IRCAM"])
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_what_states_no_length_is_read_with_a_warning(kind: str, order: str) -> None:
    if (kind, order) == ("PVF", "LITTLE"):
        pytest.skip("PVF has one order of bytes")
    file = io.BytesIO()
    soundfile.write(file, tone(), 16_000, format=kind, subtype="PCM_16", endian=order)
    data = file.getvalue()
    assert noted(data) == (pytest.approx(2.0, abs=0.05), ["open-end"])
    assert noted(data[: len(data) // 2]) == (pytest.approx(1.0, abs=0.05), ["open-end"])


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "AU"])
def test_a_second_file_behind_the_first_is_told(kind: str) -> None:
    data = encode(kind, "PCM_16")
    assert noted(data + data) == (pytest.approx(2.0, abs=0.05), ["chained"])
    assert noted(data + bytes(100)) == (pytest.approx(2.0, abs=0.05), [])


def test_a_voc_of_sox_is_read_though_it_counts_too_few() -> None:
    data = bytearray(encode("VOC", "PCM_16"))
    assert data[26] == 9
    data[27:30] = (int.from_bytes(data[27:30], "little") - 8).to_bytes(3, "little")
    assert noted(bytes(data)) == (pytest.approx(2.0, abs=0.05), [])


def test_a_tag_before_a_wav_hides_nothing(tmp_path: Path) -> None:
    data = id3_tag(40_000) + encode("WAV", "PCM_16")
    path = tmp_path / "tagged.wav"
    path.write_bytes(data)
    np.testing.assert_array_equal(read(data), read(encode("WAV", "PCM_16")))
    np.testing.assert_array_equal(read(path), read(data))
    with pytest.raises(TruncatedAudioError):
        read(data[:-1_000])


@pytest.mark.parametrize(
    ("kind", "place", "width", "order"),
    [
        (("WAV", "PCM_16"), b"data", 4, "little"),
        (("WAV", "PCM_U8"), b"data", 4, "little"),
        (("WAV", "PCM_24"), b"data", 4, "little"),
        (("WAV", "FLOAT"), b"data", 4, "little"),
        (("WAVEX", "PCM_16"), b"data", 4, "little"),
        (("AIFF", "PCM_16"), b"SSND", 4, "big"),
        (("W64", "PCM_16"), b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", 8, "little"),
        (("CAF", "PCM_16"), b"data", 8, "big"),
        (("AU", "PCM_16"), b".snd\x00\x00\x00\x18", 4, "big"),
    ],
)
@pytest.mark.parametrize("length", [0, -1])
def test_a_file_of_open_length_is_read_to_its_end_with_a_warning(
    kind: tuple[str, str], place: bytes, width: int, order: str, length: int
) -> None:
    data = encode(*kind)
    at = data.index(place) + len(place)
    said = length.to_bytes(width, order, signed=True)  # type: ignore[arg-type]
    opened = data[:at] + said + data[at + width :]
    assert noted(opened) == (pytest.approx(2.0, abs=0.001), ["open-end"])
    whole, again = read(data), read(opened)
    np.testing.assert_array_equal(again[: len(whole)], whole)


def test_an_rf64_of_open_length_is_read_to_its_end() -> None:
    data = bytearray(encode("RF64", "PCM_16"))
    at = data.index(b"ds64") + 8
    data[at : at + 24] = bytes(24)
    assert noted(bytes(data)) == (pytest.approx(2.0), ["open-end"])


def test_a_wav_of_length_0_with_nothing_but_chunks_behind_is_empty() -> None:
    data = bytearray(encode("WAV", "PCM_16")[:44])
    data[40:44] = bytes(4)
    for behind in (b"", b"LIST\x04\0\0\0INFO"):
        with pytest.raises(EmptyAudioError):
            read(bytes(data) + behind)


@pytest.mark.parametrize("kind", [("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_ogg_without_an_end_mark_is_read_and_one_that_is_cut_off_refused(
    kind: tuple[str, str],
) -> None:
    data = encode(*kind)
    unmarked = without_end_mark(data)
    assert noted(unmarked) == (pytest.approx(2.0, abs=0.01), ["open-end"])
    np.testing.assert_array_equal(read(unmarked), read(data))
    last = list(pages(data))[-1][0]
    for cut in (last + 1, last + 20, len(data) - 1):
        with pytest.raises(TruncatedAudioError):
            read(unmarked[:cut])


@pytest.mark.parametrize("kind", [("OGG", "VORBIS"), ("OGG", "OPUS")])
@pytest.mark.parametrize("marked", [True, False])
def test_streams_one_behind_the_other_are_all_read(kind: tuple[str, str], marked: bool) -> None:
    data = encode(*kind)
    first = data if marked else without_end_mark(data)
    chained = first + apart(data, 7) + apart(data, 8)
    assert noted(chained) == (pytest.approx(6.0, abs=0.03), [])
    np.testing.assert_array_equal(read(chained)[: len(read(data))], read(data))
    assert noted(first + data)[0] == pytest.approx(4.0, abs=0.02)  # copies, of one serial number
    other = encode(*kind, tone(channels=2))
    assert noted(data + apart(other, 9)) == (pytest.approx(2.0, abs=0.01), ["chained"])
    with pytest.raises(TruncatedAudioError):
        read(chained[:-1])
    start, stop = next(iter(pages(data)))
    strange = edited(data[start:stop], 0, 28, b"\0" * (stop - start - 28))
    with pytest.raises(TruncatedAudioError):  # what follows is no audio
        read(data + apart(strange, 9))


def test_an_opus_that_would_never_end_is_refused() -> None:
    data = encode("OGG", "OPUS")
    for position in (-1, -2, 2**62):
        with pytest.raises(TruncatedAudioError):
            read(edited(data, 2, 6, (position % 2**64).to_bytes(8, "little")))


def test_flac_of_unknown_length_is_read_and_one_that_is_cut_off_refused() -> None:
    for channels, rate in ((1, 16_000), (2, 44_100)):
        data = encode("FLAC", "PCM_16", tone(2.03, rate, channels), rate)
        at = 4 + 4 + 13  # the 36 bits of the length begin in the middle of this byte
        open_length = data[:at] + bytes([data[at] & 0xF0]) + bytes(4) + data[at + 5 :]
        np.testing.assert_array_equal(read(open_length), read(data))
        np.testing.assert_array_equal(read(open_length + b"TAG" + bytes(125)), read(data))
        for cut in (len(data) - 1, len(data) - 2_000, len(data) // 2):
            with pytest.raises(TruncatedAudioError):
                read(open_length[:cut])


def test_a_frame_of_flac_is_known_by_its_checksums() -> None:
    data = encode("FLAC", "PCM_16")
    start = data.rindex(b"\xff\xf8")
    assert flac._header(data[start : start + 16]) is not None
    assert flac._header(data[start : start + 4] + b"\xfe" * 12) is None


def test_mp3_is_read_whole_whatever_its_header_says() -> None:
    data = variable_mp3()
    bare = bare_mp3(data)
    assert noted(data)[0] == 4.0
    assert noted(bare)[0] == pytest.approx(4.0, abs=0.15)
    assert noted(data + data)[0] == pytest.approx(8.0, abs=0.3)
    assert noted(id3_tag(50_000) + bare + ape_tag(60_000))[0] == pytest.approx(4.0, abs=0.15)
    constant = encode("MP3", "MPEG_LAYER_III")
    for tagged in (data + ape_tag(200_000), id3_tag(300_000) + data, data + bytes(3_000)):
        np.testing.assert_allclose(read(tagged), read(data), atol=1e-5)
    assert noted(constant + b"TAG" + bytes(125))[0] == 2.0


def test_an_ape_tag_in_front_of_mp3_is_passed_over() -> None:
    plain = encode("MP3", "MPEG_LAYER_III")
    for data in (plain, bare_mp3(plain)):
        assert noted(ape_tag(20_000) + data) == noted(data)


def test_mp3_that_is_cut_off_or_has_lost_frames_is_refused() -> None:
    data = variable_mp3()
    bare = bare_mp3(data)
    for source in (data, bare):
        for cut in (len(source) // 3, len(source) * 4 // 5, len(source) - 1):
            with pytest.raises(TruncatedAudioError):
                read(source[:cut])
        middle = len(source) // 2
        for broken in (
            source[:middle] + source[middle + 3_000 :],
            source[:middle] + b"\x55" * 3_000 + source[middle + 3_000 :],
        ):
            with pytest.raises(TruncatedAudioError):
                read(broken)


def test_nothing_is_printed_for_tags_and_cuts(capfd: pytest.CaptureFixture[str]) -> None:
    data = variable_mp3()
    read(data + ape_tag(200_000))
    read(bare_mp3(data)[3_000:])  # cut out of a stream: its first frames lean on what is gone
    with pytest.raises(NotAudioError):
        read(b"\xf0\x7e\x00\x01" + bytes(5_000))  # a MIDI sample dump
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_frames_of_mp3_are_as_long_as_the_standard_says() -> None:
    lengths = [mpeg.parse(word) for word in (0xFFFB9064, 0xFFFB9264, 0xFFF340C0)]
    assert [frame.length for frame in lengths if frame] == [417, 418, 104]
    for nothing in (0, 0xFFFB0064, 0xFFFBF064, 0xFFFD9064, 0xFFFB9C64):  # free, bad, layer II, rate
        assert mpeg.parse(nothing) is None


def test_pieces_read_like_a_file() -> None:
    whole = patched(io.BytesIO(bytes(range(100))), 100, [(3, b"abc"), (50, b"xy")])
    expected = bytearray(range(100))
    expected[3:6], expected[50:52] = b"abc", b"xy"
    assert whole.read() == bytes(expected)
    for start in range(0, 100, 7):
        whole.seek(start)
        assert whole.read(11) == bytes(expected[start : start + 11])
    assert whole.seek(-4, 2) == 96
    assert Pieces(io.BytesIO(b""), []).read() == b""


def test_a_file_is_read_by_path_as_by_bytes(tmp_path: Path) -> None:
    for name, data in (
        ("a.ogg", without_end_mark(encode("OGG", "OPUS"))),
        ("b.mp3", bare_mp3(variable_mp3())),
        ("c.wav", encode("WAV", "PCM_16")[:40] + bytes(4) + encode("WAV", "PCM_16")[44:]),
    ):
        (tmp_path / name).write_bytes(data)
        np.testing.assert_array_equal(read(tmp_path / name), read(data))


def test_a_long_chain_of_headers_costs_little() -> None:
    head = encode("OGG", "OPUS")
    page = b"OggS\0\0" + struct.pack("<q", 960) + head[14:18] + bytes(9)
    for data in (page * 100_000, b"\xff" * 10**6, id3_tag(0) * 100_000, b"ID3" + bytes(10**6)):
        with pytest.raises((TruncatedAudioError, NotAudioError)):
            read(data)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    from speakerguard.errors import AudioError, OversizedAudioError
    from speakerguard.sound import audio, speech

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 192_000, 8, "PCM_16", format="FLAC") as bomb:
        for _ in range(3):
            bomb.write(np.zeros((audio.block_frames(192_000, 8), 8), np.int16))
    monkeypatch.setattr(speech, "MAX_VALUES", 1_000_000)
    decoded = []
    monkeypatch.setattr(audio.Recording, "_inspect", lambda self, chunk: decoded.append(chunk.size))
    with pytest.raises(AudioError):
        speech.load_speech(file.getvalue())
    assert len(decoded) <= 2
    monkeypatch.setattr(audio, "MAX_VALUES", 1_000_000)
    with pytest.raises(OversizedAudioError, match="Cut it into pieces"):
        read(file.getvalue())


@pytest.mark.parametrize("field", [(22, 2, 65), (22, 2, 1_000), (24, 4, 2_000_000)])
def test_no_header_has_more_channels_or_a_higher_rate_than_is_read(
    field: tuple[int, int, int],
) -> None:
    place, width, value = field
    data = bytearray(encode("WAV", "PCM_16"))
    data[place : place + width] = value.to_bytes(width, "little")
    with pytest.raises(NotAudioError, match=r"channels|sample rate"):
        read(bytes(data))
