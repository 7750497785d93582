"""Make the locked environment: ``python tools/install.py VENV [--cuda]``. Standard library only.

Everything is checked by the hashes in ``requirements.lock``. On Linux the CPU build of torch is
taken from PyTorch's own index, since the package index's build brings several gigabytes of CUDA;
``--cuda`` takes that one. Where PyTorch's index cannot be reached, pip looks only where it is set
up to look. A CPU build whose hash ``requirements-torch.lock`` does not list is taken on its
index's word, and this says so.
"""

import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import venv
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"


def main() -> None:
    """Create the environment if there is none, then bring it to what the locks say."""
    folder, cuda = Path(sys.argv[1]), "--cuda" in sys.argv[2:]
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(
            f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}. "
            "Run: make install PYTHON=python3.12"
        )
    if not Path(environment(folder)).exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    pip = [environment(folder), "-m", "pip", "--disable-pip-version-check"]
    hashed = [*pip, "install", "--quiet", "--require-hashes"]
    print("installing what requirements.lock names; this takes a minute or two", flush=True)
    run([*hashed, "--no-deps", "--requirement", str(ROOT / "requirements.lock")])
    install_torch(pip, hashed, cuda)
    run([*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    run([*pip, "check"])


def install_torch(pip: list[str], hashed: list[str], cuda: bool) -> None:
    """The CPU build where pip finds one, else the package index's with all that it needs."""
    lock = ROOT / "requirements-torch.lock"
    extra = ["--extra-index-url", CPU_INDEX] if use_cpu_index(cuda) else []
    build = None if cuda or not sys.platform.startswith("linux") else cpu_build(pip, extra)
    if build is None:
        run([*hashed, "--no-deps", "--requirement", str(lock)])
    elif f"# build {build}" in lock.read_text("utf-8"):
        with tempfile.TemporaryDirectory() as scratch:
            alone = Path(scratch) / "torch.lock"
            block = next(block for block in read(lock) if block.startswith(TORCH))
            alone.write_text(block.replace(TORCH, f"{TORCH}+cpu"))  # or pip prefers an index's
            run([*hashed, "--no-deps", *extra, "--requirement", str(alone)])
    else:
        print(f"{build} has no hash in {lock.name}; it is taken as its index has it", flush=True)
        run([*pip, "install", "--quiet", "--no-deps", *extra, f"{TORCH}+cpu"])


def cpu_build(pip: list[str], extra: list[str]) -> str | None:
    """File name of the CPU build that pip would install, if it finds one."""
    ask = [*pip, "install", "--quiet", "--no-deps", "--dry-run", "--ignore-installed"]
    ask += [*extra, "--report", "-", f"{TORCH}+cpu"]
    asked = subprocess.run(ask, check=False, capture_output=True, text=True)
    if asked.returncode:
        return None
    url = json.loads(asked.stdout)["install"][0]["download_info"]["url"]
    return urllib.parse.unquote(url.rpartition("/")[2])


def environment(folder: Path) -> str:
    """The Python of a virtual environment."""
    return str(folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))


def read(lock: Path) -> list[str]:
    """Blocks of a lock: a requirement with its hashes each."""
    return re.findall(r"^[^\s#].*\n(?:[ \t]+.*\n)*", lock.read_text("utf-8"), re.M)


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
