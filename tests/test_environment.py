"""One environment holds both frameworks, and what needs neither does not wait for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPERATIONS = {
    "torch": "import torch; print(float(torch.ones(3).sum()))",
    "tensorflow": "import tensorflow as tf; print(float(tf.reduce_sum(tf.ones(3))))",
}


def run(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("order", [("torch", "tensorflow"), ("tensorflow", "torch")])
def test_both_frameworks_work_in_one_process(order: tuple[str, str]) -> None:
    again = [*order, *order]
    assert run("\n".join(OPERATIONS[name] for name in again)).split() == ["3.0"] * 4


def test_importing_the_package_imports_no_framework() -> None:
    heavy = "{'torch', 'tensorflow', 'numpy', 'onnxruntime', 'librosa'}"
    program = f"import sys, speakerguard; print(sorted({heavy} & set(sys.modules)))"
    assert run(program).strip() == "[]"


def test_the_verifier_is_there_when_asked_for() -> None:
    program = (
        "import speakerguard\n"
        "from importlib.metadata import version\n"
        "from speakerguard import Verifier\n"
        "from speakerguard.verification.verifier import Verifier as same\n"
        "assert Verifier is same\n"
        "assert speakerguard.__version__ == version('speakerguard')\n"
        "print(hasattr(speakerguard, 'Verifyer'))\n"
    )
    assert run(program).strip() == "False"


def test_onnx_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """It would keep an identity of the device below the home folder, and call its maker."""
    program = (
        "from speakerguard.sound.speech import load_speech; load_speech(([0.1] * 16_000, 16_000))"
    )
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [sys.executable, "-c", program], env=kept | {"HOME": str(tmp_path)}, check=False,
        capture_output=True,
    )  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
