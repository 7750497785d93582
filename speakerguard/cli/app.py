"""The command line. Every command is a thin layer over the library; slow imports stay inside.

Exit codes: 0 accept or success, 1 reject, 2 usage, 3 unusable audio, 4 no such or incompatible
profile; of ``doctor``, 1 where something is wrong; 70 is a bug.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from speakerguard.cli import claims, quiet
from speakerguard.cli import compare as cli_compare
from speakerguard.cli import export as cli_export
from speakerguard.cli import models as cli_models
from speakerguard.cli import profiles as cli_profiles
from speakerguard.cli import trials as cli_trials
from speakerguard.cli import voices as cli_voices
from speakerguard.cli.ending import ending
from speakerguard.cli.options import ACCEPT, Json, print_json

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 accept or success, 1 reject, 2 usage, 3 unusable audio, "
    "4 no such or incompatible profile, 70 a defect, 130 stopped by Ctrl-C.",
)
app.add_typer(cli_profiles.profiles, name="profiles")


def _show_version(wanted: bool) -> None:
    if wanted:
        from speakerguard import __version__

        print(f"speakerguard {__version__}")
        raise typer.Exit


@app.callback()
def speakerguard(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Speaker verification that attacks itself."""


app.command()(claims.enroll)
app.command()(claims.verify)
app.command()(claims.identify)
app.command()(cli_compare.compare)
for command in (cli_trials.embed, cli_trials.score, cli_trials.evaluate, cli_trials.calibrate):
    app.command()(command)
app.command()(cli_trials.cohort)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="A file such as configs/guard.yaml.")],
    init: Annotated[str | None, typer.Option(help="Model to start from, a name or folder.")] = None,
) -> None:
    """Train a guard; goes on where an interrupted run stopped."""
    from speakerguard.train import train as run

    rate = run(config, lambda line: print(line, flush=True), init)
    print(f"best EER on dev: {100 * rate:.2f} %")


@app.command()
def convert(source: Path, out: Path) -> None:
    """Turn a Deep Speaker checkpoint (.h5) into a model's folder, or such a folder into .h5."""
    from speakerguard.export.deep_speaker import convert as run

    print(run(source, out))


app.command()(cli_export.export)
app.command()(cli_export.quantise)
app.command()(cli_voices.voices)
app.command()(cli_models.models)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this installation, with advice for each thing wrong."""
    from speakerguard.cli import doctor as clinic

    checks = clinic.diagnose()
    if as_json:
        print_json(clinic.as_dict(checks))
    else:
        print(clinic.report(checks))
    raise typer.Exit(clinic.exit_code(checks))


def _is_own(arguments: list[str]) -> bool:
    """Whether the first argument names a command of this package."""
    named = [command.callback.__name__ for command in app.registered_commands if command.callback]
    named += [str(group.name) for group in app.registered_groups]
    return bool(arguments) and arguments[0] in named


def _plug_in() -> None:
    """Add the commands that installed packages offer as entry points ``speakerguard.commands``."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="speakerguard.commands"):
        try:
            app.command(entry.name)(entry.load())
        except Exception as error:  # whatever another package does wrong, the rest must run
            print(f"speakerguard: no command {entry.name!r} ({error!r}).", file=sys.stderr)


def main() -> NoReturn:
    """Entry point."""
    atexit.register(gc.freeze)  # or Python's end looks through all it imported for cycles, slowly
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # starting more takes numpy's import long
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # none is used; looking takes long
    with ending("speakerguard", command="".join(sys.argv[1:2])):
        if _is_own(sys.argv[1:2]):
            quiet.own_words()
        else:  # looking for other packages' commands takes long
            _plug_in()
        app()
    sys.exit(ACCEPT)


if __name__ == "__main__":
    main()
