"""The torch network of a verifier, for gradients, whatever the verifier itself runs on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advgan.victim.plugins import NotRunError
from speakerguard.embedders.contract import Embedder
from speakerguard.embedders.fused import FusedEmbedder
from speakerguard.embedders.peers_torch import PEERS
from speakerguard.network import checkpoint


class FusedNetwork(nn.Module):
    """Networks whose embeddings stand one after another, as in a fused verifier.

    Args:
        networks: each from (B, n) to unit embeddings.
        shares: their weights, which add up to 1.
    """

    def __init__(self, networks: Sequence[nn.Module], shares: Sequence[float]) -> None:
        super().__init__()
        self.networks, self.shares = nn.ModuleList(networks), list(shares)

    def forward(self, waveforms: Tensor) -> Tensor:
        """(B, n) waveforms to unit embeddings (B, dimension)."""
        parts = [
            math.sqrt(share) * network(waveforms)
            for network, share in zip(self.networks, self.shares, strict=True)
        ]
        return torch.cat(parts, dim=1)


def network_of(embedder: Embedder) -> nn.Module:
    """(B, n) waveforms to unit embeddings, front end included; parameters are frozen.

    An 8-bit guard has no gradient: the network that it was made of stands in for it, as it does
    for an attacker. Their embeddings have cosines of 0.995 and more.

    Raises:
        NotRunError: the model has no torch network.
    """
    network: nn.Module
    if isinstance(embedder, FusedEmbedder):
        network = FusedNetwork([network_of(one) for one in embedder.members], embedder.shares)
    elif embedder.name in PEERS:
        network = PEERS[embedder.name]()
    elif (embedder.folder / checkpoint.MODEL_FILE).is_file():
        network, _ = checkpoint.load(embedder.folder / checkpoint.MODEL_FILE)
    elif (original := _made_of(embedder.fingerprint)) is not None:
        network, _ = checkpoint.load(checkpoint.folder() / original / checkpoint.MODEL_FILE)
    else:
        raise NotRunError(f"{embedder.name} has no torch network to take gradients of.")
    return network.eval().requires_grad_(False)


def _made_of(fingerprint: str) -> str | None:
    """Name of the shipped guard that an 8-bit one of this fingerprint was made of."""
    weights, _, small = fingerprint.partition("-int8-")
    if not small:
        return None
    for name in checkpoint.guards((checkpoint.MODEL_FILE,)):
        path = checkpoint.folder() / name / checkpoint.MODEL_FILE
        if checkpoint.fingerprint(path) == weights:
            return name
    return None
