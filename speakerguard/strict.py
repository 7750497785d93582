"""Dataclasses from JSON, each key and type checked, without pydantic: for files that a decision
reads, because the import of pydantic takes longer than the decision.
"""

from __future__ import annotations

import math
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

_NAMES = {str: "text", int: "a whole number", float: "a number", dict: "an object"}


def build(kind: Any, value: object, key: str = "") -> Any:
    """``value``, as :func:`json.loads` gives it, as an instance of ``kind``.

    Args:
        kind: a dataclass, ``dict[str, …]``, str, int or float; whole numbers are floats too.
        key: where in the file ``value`` is, with dots.

    Raises:
        ValueError: a key is missing or unknown, a value of the wrong type or not finite; the
            message begins with the key.

    >>> build(dict[str, float], {"a": 1})
    {'a': 1.0}
    """
    nested = is_dataclass(kind) or get_origin(kind) is dict
    wanted = dict if nested else kind
    if wanted is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if type(value) is not wanted:
        raise ValueError(f"{key or 'the file'}: is not {_NAMES[wanted]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key}: is not a finite number")
    if not isinstance(value, dict):
        return value
    inner = f"{key}." if key else ""
    if get_origin(kind) is dict:
        return {name: build(get_args(kind)[1], v, inner + name) for name, v in value.items()}
    kinds = get_type_hints(kind)
    for name in (*kinds, *value):
        if name not in value or name not in kinds:
            problem = "is missing" if name in kinds else "is an unknown key"
            raise ValueError(f"{inner}{name}: {problem}")
    return kind(**{name: build(kinds[name], v, inner + name) for name, v in value.items()})
