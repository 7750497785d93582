"""Renew requirements.lock: ``python tools/lock.py``.

Resolves pyproject.toml with all its extras in a fresh environment and writes the exact version of
everything that came. Versions lose their local suffix (``+cpu``) and no index or path is written,
so the lock means the same on every machine.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from install import CPU_INDEX, ROOT, run, use_cpu_index

HEADER = "# Exact versions of everything, made by tools/lock.py from pyproject.toml. Do not edit.\n"


def main() -> None:
    """Resolve, freeze, write."""
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = str(Path(scratch) / "bin" / "python")
        extra = ["--extra-index-url", CPU_INDEX] if use_cpu_index(cuda=False) else []
        run([python, "-m", "pip", "install", "--quiet", *extra, "torch==2.13.0", f"{ROOT}[all]"])
        run([python, "-m", "pip", "check"])
        freeze = [python, "-m", "pip", "freeze", "--all", "--exclude", "speakerguard"]
        listed = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    lines = [line.split("+")[0] for line in listed.splitlines() if "==" in line]
    kept = sorted((line for line in lines if not line.startswith("pip==")), key=str.lower)
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept)} packages in requirements.lock")


if __name__ == "__main__":
    main()
