"""What libsndfile cannot read: through PyAV where it is installed, else the message names it."""

import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recordings import encode, pages, tone, without_end_mark

from speakerguard.decoding import mediaboxes
from speakerguard.decoding import with_av as decoder_av
from speakerguard.errors import NotAudioError, TruncatedAudioError
from speakerguard.sound.audio import open_recording, read

needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None,
    reason="PyAV is not installed: pip install 'speakerguard[formats]'",
)
KINDS = [  # container, codec, rate, whether its length is stated
    *(("adts", "aac", 16_000), ("mp4", "aac", 44_100), ("ipod", "alac", 16_000)),
    *(("webm", "libopus", 48_000), ("webm", "libvorbis", 16_000), ("matroska", "flac", 16_000)),
    *(("ogg", "flac", 16_000), ("3gp", "aac", 16_000), ("asf", "wmav2", 16_000)),
    *(("mp4", "libopus", 48_000), ("flv", "aac", 22_050), ("wv", "wavpack", 16_000)),
]


def muxed(
    container: str,
    codec: str,
    rate: int = 16_000,
    seconds: float = 2.0,
    streams: int = 1,
    live: bool = False,
) -> bytes:
    """A tone in ``container``; ``live`` as a browser writes it, who cannot go back."""
    av: Any = pytest.importorskip("av")
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    file: Any = io.BytesIO()
    options = {"live": "1"} if live else {}
    samples = (tone(seconds, rate)[:, 0] * 32_767).astype(np.int16)
    with av.open(file, "w", format=container, options=options) as made:
        for _ in range(streams):
            stream = made.add_stream(codec, rate=rate)
            stream.layout = "mono"
            stream.bit_rate = 64_000
        for stream in made.streams:
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate = rate
            fifo = av.AudioFifo()
            fifo.write(frame)
            size = stream.codec_context.frame_size or 1_024
            resampler = av.AudioResampler(stream.format, "mono", rate)
            while (part := fifo.read(size, partial=True)) is not None:
                for fit in resampler.resample(part):
                    made.mux(stream.encode(fit))
            made.mux([packet for packet in stream.encode(None) if packet.size])
    return bytes(file.getvalue())


@needs_av
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_what_telephones_and_browsers_write_is_read(
    kind: tuple[str, str, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = muxed(*kind)
    heard = read(data)
    assert len(heard) / 16_000 == pytest.approx(2.0, abs=0.15)
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() * 16_000 / len(heard) == pytest.approx(440, abs=2)
    assert np.abs(heard).max() == pytest.approx(0.3, abs=0.05)
    path = tmp_path / "memo"
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path), heard)
    with pytest.raises((TruncatedAudioError, NotAudioError)):
        read(data[: len(data) // 2])
    said = capfd.readouterr()
    assert said.out + said.err == ""


@needs_av
@pytest.mark.parametrize(
    "kind",
    [
        *(("adts", "aac"), ("mp4", "aac"), ("ogg", "flac"), ("matroska", "flac"), ("mp2", "mp2")),
        *(("mpegts", "mp2"), ("avi", "mp2"), ("ac3", "ac3"), ("flv", "aac")),
    ],
    ids="-".join,
)
def test_one_byte_less_is_noticed(kind: tuple[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    data = muxed(*kind, rate=44_100 if kind[0] in ("flv", "ac3") else 16_000)
    assert len(read(data)) / 16_000 == pytest.approx(2.0, abs=0.15)
    assert capfd.readouterr().err == ""
    with pytest.raises(TruncatedAudioError):
        read(data[:-1])


@needs_av
def test_a_browser_states_no_length_and_is_read() -> None:
    data = muxed("webm", "libopus", 48_000, live=True)
    recording = open_recording(data)
    assert sum(map(len, recording.blocks())) / 16_000 == pytest.approx(2.0, abs=0.1)
    assert recording.notes == {}
    with pytest.raises(TruncatedAudioError):
        read(data[: len(data) * 2 // 3])


@needs_av
def test_flac_in_ogg_without_an_end_mark_is_read() -> None:
    data = muxed("ogg", "flac")
    assert len(list(pages(data))) > 2
    assert len(read(without_end_mark(data))) == 32_000
    assert len(read(data + data)) == 64_000


@needs_av
def test_of_several_streams_the_first_is_read_with_a_warning() -> None:
    recording = open_recording(muxed("matroska", "flac", streams=2))
    assert sum(map(len, recording.blocks())) == 32_000
    assert list(recording.notes) == ["several-streams"]


@needs_av
def test_pictures_without_sound_are_refused() -> None:
    av: Any = pytest.importorskip("av")
    file: Any = io.BytesIO()
    with av.open(file, "w", format="matroska") as made:
        stream = made.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            made.mux(stream.encode(picture))
        made.mux(stream.encode(None))
    with pytest.raises(NotAudioError, match="holds no sound"):
        read(bytes(file.getvalue()))


@needs_av
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.ffconcat", "ffconcat version 1.0\nfile '{secret}'\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"),
        ("list.m3u", "#EXTM3U\n{secret}\n"),
        ("list.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=audio 4000 RTP/AVP 0\n"),
        (
            "list.mpd",
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
            "<Period><AdaptationSet><Representation><BaseURL>{secret}</BaseURL>"
            "</Representation></AdaptationSet></Period></MPD>",
        ),
    ],
)
def test_a_list_that_names_another_file_is_not_followed(
    name: str, text: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encode("WAV", "PCM_16"))
    path = tmp_path / name
    path.write_text(text.format(secret=secret))
    for source in (path, path.read_bytes()):
        with pytest.raises(NotAudioError):
            read(source)


@needs_av
def test_a_film_that_refers_to_another_file_is_not_followed(tmp_path: Path) -> None:
    """A QuickTime data reference to a file beside it."""
    (tmp_path / "secret.wav").write_bytes(encode("WAV", "PCM_16"))
    data = muxed("mov", "pcm_s16le")
    at = data.index(b"dref")
    assert data[at + 16 : at + 20] in (b"url ", b"alis")
    target = f"file://{tmp_path}/secret.wav\0".encode()
    entry = (12 + len(target)).to_bytes(4, "big") + b"url " + bytes(4) + target
    path = tmp_path / "film.mov"
    path.write_bytes(data[: at + 12] + entry + data[at + 12 + 12 :])
    with pytest.raises((NotAudioError, TruncatedAudioError)):
        read(path)


def test_only_formats_that_hold_their_own_sound_are_looked_for() -> None:
    for following in (
        "concat",
        "hls",
        "dash",
        "sdp",
        "rtsp",
        "image2",
        "lavfi",
        "imf",
        "webm_dash",
    ):
        assert following not in decoder_av.FORMATS


def test_without_the_package_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_av, "installed", lambda: False)
    for data in (b"\0\0\0\x18ftypM4A " + bytes(5_000), b"\x1a\x45\xdf\xa3" + bytes(5_000), b"junk"):
        with pytest.raises(NotAudioError, match=r"Convert it.* pip install 'speakerguard\[form"):
            read(data)


def test_layer_2_without_the_package_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoder_av, "installed", lambda: False)
    frame = b"\xff\xfd\x44\x04" + bytes(188)  # 64 kbit/s at 48 kHz
    with pytest.raises(NotAudioError, match=r"layer 1 or 2.*formats"):
        read(frame * 20)
    assert capfd.readouterr().err == ""


def test_boxes_elements_and_frames_that_go_on_behind_the_end_are_noticed() -> None:
    mp4 = (
        b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\x10moov" + bytes(8) + b"\0\0\0\x20mdat" + bytes(24)
    )
    webm = b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7  # a segment without end
    webm += b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7 + b"\xa3\x90" + bytes(16)
    amr = b"#!AMR\n" + (b"\x3c" + bytes(31)) * 5
    wide = b"#!AMR-WB\n" + (b"\x24" + bytes(40)) * 5
    adts = (b"\xff\xf1\x50\x40\x01\x1f\xfc" + bytes(1)) * 5
    for data in (mp4, webm, amr, wide, adts):
        assert not mediaboxes.cut_off(io.BytesIO(data), len(data))
        for cut in (1, 3):
            assert mediaboxes.cut_off(io.BytesIO(data[:-cut]), len(data) - cut)
    assert mediaboxes.cut_off(io.BytesIO(mp4[:16] + mp4[32:]), len(mp4) - 16)  # no index
    for data in (b"", b"\x0b\x77", b"\xff\xfd", b"FLV", b"G", b"RIFF\0\0\0\0AVI "):
        mediaboxes.cut_off(io.BytesIO(data), len(data))
    assert not mediaboxes.cut_off(io.BytesIO(b""), 0)
