"""The programs in tools/, as modules to test."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_tool(name: str) -> ModuleType:
    """``tools/NAME.py``, loaded anew; dataclasses in it look their module up by its name."""
    path = Path(__file__).parents[2] / "tools" / f"{name}.py"
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # as for a program that lies there
    spec = importlib.util.spec_from_file_location(f"{name}_tool", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module
