"""Training against attacks: what somebody made to pass for a voice must not be near that voice.

Two kinds of attack take part. *Conversions* lie in folders that ``advgan-generate`` wrote; their
manifest is a plain TSV, so nothing of the attacker is needed here. *Gradient attacks* are made on
the fly against the weights of the moment: adversarial training (Goodfellow et al. 2015, arXiv
1412.6572; Madry et al. 2018, arXiv 1706.06083).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speakerguard.errors import UsageError

MANIFEST = "manifest.tsv"
NEEDED = ("source", "target", "output")


@dataclass(frozen=True)
class ConvertedUtterance:
    """A recording made to pass for somebody.

    Attributes:
        output: the recording, relative to its manifest's folder.
        source, target: who was recorded and whose voice it imitates, relative to the corpus.
        line: of the manifest, from 1.
    """

    output: str
    source: str
    target: str
    line: int


def read_conversions(folder: Path) -> list[ConvertedUtterance]:
    """The conversions that a folder's manifest lists; failed ones are left out.

    Raises:
        UsageError: no manifest, a column that is missing or misspelt, a line of another length,
            a missing recording, or no conversion at all.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{path}: no such file. Make it with `advgan-generate -o {folder}`.")
    header, *lines = path.read_text("utf-8", "surrogateescape").rstrip("\n").split("\n")
    names = header.split("\t")
    for name in NEEDED:
        if name not in names:
            near = difflib.get_close_matches(name, set(names) - set(NEEDED), 1)
            hint = f" Is {near[0]!r} meant?" if near else ""
            raise UsageError(
                f"{path}: no column {name!r}; it needs {', '.join(NEEDED)}, and has "
                f"{', '.join(names)}.{hint}"
            )
    found = []
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(names):
            raise UsageError(
                f"{path}, line {number}: {len(cells)} columns where the first line has "
                f"{len(names)}. Make it anew with `advgan-generate -o {folder}`."
            )
        row = dict(zip(names, cells, strict=True))
        if row.get("error"):
            continue
        if not row["output"] or not (folder / row["output"]).is_file():
            raise UsageError(
                f"{path}, line {number}: {row['output'] or 'its output'} is not in {folder}. Run "
                "`advgan-generate` again, or take the line out."
            )
        found.append(ConvertedUtterance(row["output"], row["source"], row["target"], number))
    if not found:
        raise UsageError(f"{path}: lists no conversion.")
    return found


def draw_victims(labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Which crops to attack, and what each shall pass for.

    Args:
        labels: (B,), -1 where unknown.
        share: of the crops with a label, that are attacked.

    Returns:
        Rows to attack, and for each a row of another voice that is not attacked; (A,) each.
    """
    known = torch.nonzero(labels >= 0)[:, 0]
    order = known[torch.randperm(len(known)).to(known.device)]
    count = round(share * len(known))
    rows, rest = order[:count], order[count:]
    others = labels[rows][:, None] != labels[rest]
    possible = others.any(dim=1)
    rows, others = rows[possible], others[possible]
    if not len(rows):
        return rows, rows
    draw = torch.multinomial(others.float().cpu(), 1)[:, 0].to(rest.device)
    return rows, rest[draw]


def perturb(
    embed: Callable[[Tensor], Tensor],
    waveforms: Tensor,
    goals: Tensor,
    epsilon: float,
    steps: int,
) -> Tensor:
    """Waveforms that ``embed`` hears as nearer to ``goals``.

    Signed gradient ascent on the cosine from a random start, projected after every step (Madry
    et al. 2018, section 2.1); one step is FGSM. The network's weights get no gradient.

    Args:
        embed: gives embeddings (A, D), and a slope.
        waveforms: (A, samples), in [-1, 1].
        goals: embeddings (A, D) of the voices to pass for.
        epsilon: largest change of a sample, as a share of its waveform's peak.
        steps: of the ascent.

    Returns:
        (A, samples), in [-1, 1].
    """
    bound = epsilon * waveforms.abs().amax(dim=1, keepdim=True)
    change = bound * (2 * torch.rand(waveforms.shape) - 1).to(waveforms.device)
    for _ in range(steps):
        change.requires_grad_()
        cosine = (embed(waveforms + change) * goals).sum()
        (slope,) = torch.autograd.grad(cosine, change)
        change = change.detach() + 2.5 / steps * bound * slope.sign()
        change = torch.minimum(torch.maximum(change, -bound), bound)
    return (waveforms + change).clamp(-1, 1)
