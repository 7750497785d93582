"""Descriptions that a user hands in, checked against what the weights themselves say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from advgan.networks.generator import GeneratorConfig
from advgan.networks.mel import STANDARD
from advgan.training.config import AdversarialConfig, VcConfig
from speakerguard.errors import ConfigError
from speakerguard.settings import read_yaml


def check_config(path: Path | None, found: GeneratorConfig) -> None:
    """Refuse a training configuration that describes another network than was loaded.

    Both this package's files and the original's (``build.model.params``) are understood.

    Raises:
        ConfigError: it cannot be read, or says otherwise.
    """
    if path is None:
        return
    content = read_yaml(path)
    if "build" not in content:
        said = _own(path, content)
    else:
        try:
            parameters = content["build"]["model"]["params"]
            encoder = parameters["encoder_params"]
            activation = parameters["activation_params"]
            said = {
                "bands": encoder["c_in"],
                "width": encoder["c_h"],
                "content": encoder["c_out"],
                "blocks": encoder["n_conv_blocks"],
                "guidance": (activation.get("params") or {}).get("alpha"),
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: build.model.params lacks {error}.") from None
    for key, value in said.items():
        if value != (own := getattr(found, key, None)):
            raise ConfigError(
                f"{path}: {key} is {value}, the weights have {own}. Give the file they were "
                "trained with, or leave --config out."
            )


def _own(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The network that a configuration of ``advgan-train`` describes."""
    known = VcConfig.model_fields | AdversarialConfig.model_fields
    if strange := [str(key) for key in content if key not in known]:
        raise ConfigError(f"{path}: {strange[0]} is no key of a generator's configuration.")
    try:
        return GeneratorConfig.model_validate(content.get("model") or {}).model_dump()
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, ("model", *problem["loc"])))
        raise ConfigError(f"{path}: {where}: {problem['msg']}.") from None


def check_dsp(path: Path | None) -> None:
    """Refuse a description of mels that differs from the convention in use.

    Raises:
        ConfigError: it cannot be read, or says otherwise.
    """
    if path is None:
        return
    names = {"sr": "sample_rate", "n_mels": "bands", "hop_length": "hop", "win_length": "n_fft"}
    own = STANDARD.model_dump()
    pending = [read_yaml(path)]
    while pending:
        for key, value in pending.pop().items():
            if isinstance(value, dict):
                pending.append(value)
            name = names.get(str(key), str(key))
            if name in own and value is not None and value != own[name]:
                raise ConfigError(
                    f"{path}: {key} is {value}, the mel convention in use has {own[name]}; other "
                    "conventions cannot be used."
                )
