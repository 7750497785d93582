"""How programs end, whoever wrote them."""

import os
import signal
import subprocess
import sys

import pytest

from speakerguard.cli.ending import INTERRUPTED, ending
from speakerguard.errors import BUG, AudioError, NoSuchProfileError, UsageError

PROGRAM = "from speakerguard.cli.ending import ending\nwith ending('x'): {}"


def run(body: str, **options: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", PROGRAM.format(body)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("a.wav: no such file."), 2, "x: a.wav: no such file.\n"),
        (AudioError("a.wav: silent.\x1b[2J"), 3, "x: a.wav: silent.\\x1b[2J\n"),
        (NoSuchProfileError("nobody\nbut\x07"), 4, "x: nobody\nbut\\x07\n"),
        (
            OSError(28, "No space left on device", "a.wav"),
            2,
            "x: [Errno 28] No space left on device: 'a.wav'. "
            "Check the path, its permissions and the disk.\n",
        ),
        (KeyboardInterrupt(), INTERRUPTED, "x: stopped; all is kept.\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, ending("x", "all is kept"):
        raise error
    assert caught.value.code == code
    assert capsys.readouterr() == ("", said)


def test_a_defect_shows_its_traceback_and_is_no_rejection() -> None:
    done = run("1 / 0")
    assert done.returncode == BUG
    assert "ZeroDivisionError" in done.stderr


def test_a_program_that_ends_well_ends_as_it_says() -> None:
    assert run("print(1)").returncode == 0
    assert run("raise SystemExit(1)").returncode == 1


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="pipes here give no signal")
def test_a_reader_who_has_seen_enough_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "-c", PROGRAM.format("print('y' * 100_000)")]
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_what_the_terminal_cannot_show_is_escaped() -> None:
    done = run("print('\\u017e')", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (0, "\\u017e\n")


def test_a_closed_standard_output_is_no_error() -> None:
    assert run("import sys; sys.stdout = None").returncode == 0
