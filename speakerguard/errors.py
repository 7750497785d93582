"""Every error a person can meet, in one family.

Each message says what happened, to which file or name, and what to do about it.
The command line turns the class into its exit code, so a script can tell a rejected
voice (1) from a recording that could not be judged (3).
"""

from unicodedata import category

BUG = 70  # exit code for what nobody foresaw, so that it is never taken for a rejection


class SpeakerguardError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 2


class UsageError(SpeakerguardError):
    """The request itself cannot be carried out: a bad option, list, or combination."""


class ConfigError(UsageError):
    """A configuration file has an unknown key, a wrong type or an impossible value."""


class TrialError(UsageError):
    """A trial list or score file has a line that cannot be used."""


class CheckpointError(UsageError):
    """A model file is missing, damaged, foreign, or does not fit the model asked for."""


class CalibrationError(ConfigError, CheckpointError):
    """The thresholds beside a model are missing or damaged."""


class OtherGuardError(CheckpointError):
    """Weights that were trained against another guard than the one to be attacked."""


class AudioError(SpeakerguardError):
    """The recording cannot be judged; no score exists for it."""

    exit_code = 3


class NotAudioError(AudioError):
    """The bytes are not in a format that can be decoded."""


class EmptyAudioError(AudioError):
    """The recording holds no samples."""


class TruncatedAudioError(AudioError):
    """The recording ends before its header says it should."""


class OversizedAudioError(AudioError):
    """The recording is longer, or gives more bytes or samples, than is read of any."""


class InvalidSamplesError(AudioError):
    """The recording holds NaN or infinite samples."""


class SilentAudioError(AudioError):
    """The recording is silent."""


class NoSpeechError(AudioError):
    """The recording holds sound but no speech, or too little of it."""


class ProfileError(SpeakerguardError):
    """The profile needed is missing or cannot be used."""

    exit_code = 4


class NoSuchProfileError(ProfileError):
    """Nobody is enrolled under this name."""


class IncompatibleProfileError(ProfileError):
    """The profile was made by other weights; its embeddings mean nothing to this model."""


class StoreError(SpeakerguardError):
    """The profile store cannot be reached, read or written."""


def printable(text: object) -> str:
    """``text`` as it can be shown on a line anywhere, whatever bytes a file name holds."""
    hidden = {"Cc", "Cs"}  # control characters, and bytes that are no text
    shown = str(text)
    return "".join(ascii(c)[1:-1] if category(c) in hidden or c in _TURNING else c for c in shown)


def printable_lines(text: object) -> str:
    """``text`` of several lines, each as :func:`printable` has it."""
    return "\n".join(map(printable, str(text).split("\n")))


_TURNING = frozenset(
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # text around
