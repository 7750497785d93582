"""Commands about enrolled voices; :mod:`speakerguard.cli.app` registers them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from speakerguard.cli.options import Json, Store, print_json, print_warnings
from speakerguard.errors import StoreError

profiles = typer.Typer(
    help="List, show, rename and remove enrolled voices, and carry them elsewhere.",
    no_args_is_help=True,
)


@profiles.command("list")
def list_(store: Store = None, as_json: Json = False) -> None:
    """Names of all enrolled voices."""
    from speakerguard.sound.audio import printable
    from speakerguard.verification import cautions
    from speakerguard.verification.store import ProfileStore

    with ProfileStore(store) as voices:
        names, damaged = voices.names(), voices.nameless()
        exposed = voices.open_to_others()
    if as_json:
        print_json(names)
    elif names:
        print("\n".join(map(printable, names)))
    elif not damaged:
        print("nobody is enrolled", file=sys.stderr)
    if exposed:
        print(f"warning: {cautions.exposed(voices.path).message}", file=sys.stderr)
    if damaged:
        raise StoreError("\n  ".join(map(str, damaged)))


@profiles.command()
def show(name: str, store: Store = None, as_json: Json = False) -> None:
    """What is kept of NAME."""
    from speakerguard.sound.audio import printable
    from speakerguard.verification.store import ProfileStore

    profile = ProfileStore(store).get(name, hint=True)
    answer = {
        "speaker": profile.name,
        "model": profile.fingerprint,
        "created": profile.created.isoformat(timespec="seconds"),
        "cohesion": profile.cohesion(),
        "utterances": [
            {"source": source, "net_seconds": seconds}
            for source, seconds in zip(profile.sources, profile.net_seconds, strict=True)
        ],
    }
    if as_json:
        print_json(answer)
        return
    model = printable(profile.fingerprint)
    print(f"{printable(profile.name)}: enrolled {answer['created']} with model {model}")
    for source, seconds in zip(profile.sources, profile.net_seconds, strict=True):
        print(f"  {seconds:5.1f} s  {printable(source)}")


@profiles.command()
def remove(name: str, store: Store = None, as_json: Json = False) -> None:
    """Forget NAME."""
    from speakerguard.sound.audio import printable
    from speakerguard.verification.profile import clean_name
    from speakerguard.verification.store import ProfileStore

    ProfileStore(store).remove(name)
    if as_json:
        print_json({"removed": clean_name(name)})
    else:
        print(f"removed {printable(name)}")


@profiles.command()
def rename(old: str, new: str, store: Store = None, as_json: Json = False) -> None:
    """Call OLD by the name NEW, which nobody may have yet."""
    from speakerguard.verification import cautions
    from speakerguard.verification.store import ProfileStore

    voices = ProfileStore(store)
    profile = voices.rename(old, new)
    warnings = list(cautions.of_name(profile.name, voices.names()))
    if as_json:
        told = [asdict(warning) for warning in warnings]
        print_json({"renamed": old, "speaker": profile.name, "warnings": told})
    else:
        print(f"renamed {old} to {profile.name}")
        print_warnings(warnings)


@profiles.command()
def drop(
    name: str,
    file: Annotated[str, typer.Argument(help="A recording's name, as `profiles show` has it.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Take one recording, FILE, out of the profile of NAME."""
    from speakerguard.sound.audio import printable
    from speakerguard.verification.store import ProfileStore

    profile = ProfileStore(store).drop(name, file)
    left = len(profile.embeddings)
    if as_json:
        print_json({"speaker": profile.name, "dropped": file, "utterances": left})
    else:
        some = f"{left} recording{'s' * (left != 1)}"
        print(f"dropped {printable(file)} from {profile.name}, which keeps {some}")


@profiles.command("export")
def export(
    names: list[str],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write the profiles of NAMES to one file, which `profiles import` reads elsewhere."""
    from speakerguard.verification.profile_file import write_profiles
    from speakerguard.verification.store import ProfileStore

    with ProfileStore(store) as voices:
        chosen = [voices.get(name, hint=True) for name in dict.fromkeys(names)]
    write_profiles(out, chosen)
    if as_json:
        print_json({"exported": [profile.name for profile in chosen], "file": str(out)})
    else:
        print(f"{len(chosen)} profile{'s' * (len(chosen) != 1)} in {out}")


@profiles.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file that `profiles export` wrote.")],
    replace: Annotated[bool, typer.Option(help="Overwrite profiles of the same name.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Take up all profiles of FILE, or none where one cannot be."""
    from speakerguard.verification import cautions
    from speakerguard.verification.profile_file import read_profiles
    from speakerguard.verification.store import ProfileStore

    found, voices = read_profiles(file), ProfileStore(store)
    voices.add_all(found, replace)
    known = voices.names()
    warnings = [warning for one in found for warning in cautions.of_name(one.name, known)]
    if as_json:
        told = [asdict(warning) for warning in warnings]
        print_json({"imported": [profile.name for profile in found], "warnings": told})
    else:
        print(f"imported {', '.join(profile.name for profile in found)}")
        print_warnings(warnings)
