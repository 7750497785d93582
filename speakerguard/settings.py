"""YAML files and other input, checked against typed classes.

An unknown key or a value of the wrong type is an error that names the file, the key and the
nearest known key.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from speakerguard.errors import ConfigError

Schema = TypeVar("Schema", bound=BaseModel)
_SHORT = reprlib.Repr()  # YAML's aliases make much of little
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200


class Strict(BaseModel):
    """A section of a configuration: keys it does not know are errors, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_as(path: Path, schema: type[Schema]) -> Schema:
    """Read a configuration file that follows ``schema``.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    return checked(path, read_yaml(path), schema)


class _Loader(yaml.SafeLoader):
    """Plain data alone; a key that stands twice is an error, not the last of the two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """See the parent class."""
        said = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if key.value in said:
                line = key.start_mark.line + 1
                raise ValueError(f"the key {key.value!r} stands there twice; again on line {line}")
            said.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file of keys and values, none of which stands twice.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8.") from None
    except (yaml.YAMLError, ValueError) as error:  # the latter of dates that do not exist
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid YAML here: nested too deeply.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold keys and values, as the files in configs/ do.")
    return content


def checked(path: Path, content: dict[str, Any], schema: type[Schema]) -> Schema:
    """What was read from ``path``, by ``schema``.

    Raises:
        ConfigError: a key or value is wrong.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(path, schema, error)) from None


def explain(
    what: object, schema: type[BaseModel], error: ValidationError, noun: str = "key"
) -> str:
    """A line for each thing that is wrong.

    Args:
        what: what was checked, such as a file; begins each line.
        noun: what its keys are called.

    >>> try:
    ...     Strict.model_validate({"steps": 1})
    ... except ValidationError as error:
    ...     print(explain("attack 'pgd'", Strict, error, "parameter"))
    attack 'pgd': unknown parameter 'steps'
    """
    lines = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(
                str(problem["loc"][-1]), _known(schema, problem["loc"]), 1
            )
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{what}: unknown {noun} {key!r}{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{what}: {noun} {key!r} is missing")
        elif problem["type"] == "value_error":
            lines.append(f"{what}: {key and key + ': '}{problem['ctx']['error']}")
        else:
            lines.append(
                f"{what}: {key}: {problem['msg']}, got {_SHORT.repr(problem.get('input'))}"
            )
    return "\n".join(lines)


def _known(schema: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed where ``location`` ends, as far as can be told."""
    model: Any = schema
    for part in location[:-1]:
        if isinstance(part, int):
            continue  # a place in a list, whose sections are known from the key before
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        kinds = [annotation, *get_args(annotation)]  # a section may be optional
        model = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        if model is None:
            return []
    return list(model.model_fields)
