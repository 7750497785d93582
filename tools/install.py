"""Make the locked environment: ``python tools/install.py VENV [--cuda]``. Standard library only.

On Linux the CPU build of torch is taken from PyTorch's own index, since the package index's build
brings several gigabytes of CUDA; ``--cuda`` takes that one. Where PyTorch's index cannot be
reached, pip looks only where it is set up to look.
"""

import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Create the environment if there is none, then bring it to what the lock says."""
    folder, cuda = Path(sys.argv[1]), "--cuda" in sys.argv[2:]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(
            f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}. "
            "Run: make install PYTHON=python3.12"
        )
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    extra = ["--extra-index-url", CPU_INDEX] if use_cpu_index(cuda) else []
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    print("installing what requirements.lock names; this takes a minute or two", flush=True)
    run([*pip, "install", "--quiet", *extra, "--requirement", str(ROOT / "requirements.lock")])
    run([*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    run([*pip, "check"])


def use_cpu_index(cuda: bool) -> bool:
    """Whether torch's CPU index is wanted, and answers."""
    if cuda or not sys.platform.startswith("linux"):
        return False
    try:
        urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=10).close()  # a fixed https address
    except (urllib.error.URLError, TimeoutError) as error:
        print(f"{CPU_INDEX} cannot be reached ({error}); using pip's own indexes", flush=True)
        return False
    return True


def run(command: list[str]) -> None:
    """Run one step, or stop with its exit code."""
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
