"""Renew the locks: ``python tools/lock.py``.

Resolves pyproject.toml with all its extras for every supported Python and platform, by uv, keeping
the versions that the locks name where they still fit, and writes each with the SHA-256 of all its
files: ``requirements.lock`` has everything but torch and the CUDA packages that its builds bring,
which are in ``requirements-torch.lock``. Torch's CPU builds are on an index of their own, and their
hashes are known where a build is in reach: on that index, or in a folder that pip looks in.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from install import CPU_INDEX, ROOT, TORCH, environment, read, run, use_cpu_index

LOCK, TORCH_LOCK = ROOT / "requirements.lock", ROOT / "requirements-torch.lock"
HEADER = "# Made by tools/lock.py from pyproject.toml. Do not edit.\n"
WITH_TORCH = re.compile(r"torch==|nvidia-|cuda-|triton==")


def main() -> None:
    """Resolve, sort into two files, add what is known of CPU builds."""
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = environment(Path(scratch))
        run([python, "-m", "pip", "install", "--quiet", "uv"])
        out, wanted = Path(scratch) / "all.lock", Path(scratch) / "wanted.txt"
        out.write_text(LOCK.read_text() + (TORCH_LOCK.read_text() if TORCH_LOCK.exists() else ""))
        wanted.write_text(f"-e {ROOT}[all]\n{TORCH}\n")
        uv = [python, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        uv += ["--python-version", "3.11", "--no-annotate", "--no-header"]
        run([*uv, "--no-emit-package", "speakerguard", "--output-file", str(out), str(wanted)])
        blocks = read(out)
        cpu = cpu_builds(python, Path(scratch))
    torch = [block for block in blocks if WITH_TORCH.match(block)]
    rest = [block for block in blocks if not WITH_TORCH.match(block)]
    known = "".join(f"# build {name}\n" for name in sorted(cpu))
    torch = [add_hashes(block, cpu) if block.startswith(TORCH) else block for block in torch]
    LOCK.write_text(HEADER + "".join(rest), encoding="utf-8")
    TORCH_LOCK.write_text(HEADER + known + "".join(torch), encoding="utf-8")
    print(f"{len(rest)} packages in {LOCK.name}; {len(cpu)} CPU builds in {TORCH_LOCK.name}")


def cpu_builds(python: str, scratch: Path) -> dict[str, str]:
    """SHA-256 by file name of torch's CPU builds that pip finds, for each supported Python."""
    extra = ["--extra-index-url", CPU_INDEX] if use_cpu_index(cuda=False) else []
    for version in ("3.11", "3.12", "3.13"):
        for machine in ("x86_64", "aarch64"):
            pip = [python, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(scratch)]
            pip += ["--python-version", version, "--platform", f"manylinux_2_28_{machine}"]
            pip += ["--only-binary", ":all:", *extra, f"{TORCH}+cpu"]
            subprocess.run(pip, check=False, capture_output=True)  # what is not there is not known
    files = scratch.glob("torch-*+cpu-*.whl")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def add_hashes(block: str, files: dict[str, str]) -> str:
    """A lock's block that lets these files pass as well."""
    new = [f"    --hash=sha256:{digest}" for digest in files.values() if digest not in block]
    return " \\\n".join([block.rstrip("\n"), *new]) + "\n"


if __name__ == "__main__":
    main()
