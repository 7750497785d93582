"""What a network is made of, as its checkpoint and the training configurations say it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

DENSE = 128  # values in an embedding of head ``embedding-dense``


class ModelConfig(BaseModel):
    """What the network is made of; stored with its weights.

    Attributes:
        front_end: ``logmel`` or ``deep-speaker``.
        width: channels of the first stage; the paper's network has 64.
        head: ``tdnn``, ``mean`` (the paper's), ``embedding-conv`` or ``embedding-dense``.
        embedding: values in an embedding; ``embedding-dense`` always has 128.
        tdnn_channels: channels of the TDNN's layers.
        activate_branch: whether each residual branch passes the clipped ReLU before its shortcut
            is added, as in conv_models.py of philipperemy/deep-speaker; its weights need it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    front_end: Literal["logmel", "deep-speaker"] = "logmel"
    width: int = Field(default=32, ge=4, le=128)
    head: Literal["tdnn", "mean", "embedding-conv", "embedding-dense"] = "tdnn"
    embedding: int = Field(default=192, ge=8, le=1024)
    tdnn_channels: int = Field(default=512, ge=16, le=2048)
    activate_branch: bool = False

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave ``activate_branch`` out where it is off: older files stay equal to the byte."""
        written: dict[str, Any] = write(self)
        if not self.activate_branch:
            written.pop("activate_branch", None)
        return written

    @property
    def dimension(self) -> int:
        """Values in an embedding, whichever the head."""
        return DENSE if self.head == "embedding-dense" else self.embedding
