"""Pictures of scores and training: DET curves, score histograms, learning curves.

Each function writes one file, whose suffix chooses the format (``.png``, ``.svg``, ``.pdf``).
Colours are Okabe and Ito's, told apart by colour-blind readers; lines also differ in dashes.
matplotlib is loaded when something is drawn, and needs no display.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from speakerguard.errors import UsageError
from speakerguard.evaluation.metrics import DetCurve, FloatArray, checked_scores, error_rates
from speakerguard.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
DET_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40)  # per cent
DET_LIMITS = (0.0009, 0.6)  # shares; the axes go lower only to show a lower equal error rate
SHARES = frozenset({"eer", "p_miss", "p_fa", "accuracy", "accepted"})  # between 0 and 1


def plot_det(curves: Mapping[str, DetCurve], path: str | Path) -> None:
    """Detection error trade-off: miss against false accept rate on normal-deviate axes.

    A dot marks where a curve has its rates nearest to equal; the legend gives its equal error
    rate. Rates of 0 lie at infinity on these axes, so a curve ends where one kind of error does.
    (Martin et al., The DET curve in assessment of detection task performance, Eurospeech 1997.)

    Raises:
        UsageError: there is no curve to draw, or the file cannot be written.
    """
    from scipy.special import ndtri

    if not curves:
        raise UsageError(f"{path}: there is no curve to draw.")
    figure, axes = _figure(6.0, 6.4 + 0.2 * len(curves))
    eers = [curve.eer() for curve in curves.values()]
    corner = min([DET_LIMITS[0], *(eer.rate / 2 for eer in eers if eer.rate > 0)])
    low, high = ndtri(np.array([corner, DET_LIMITS[1]]))
    axes.plot([low, high], [low, high], color="0.75", linewidth=1, zorder=1)
    for index, ((name, curve), eer) in enumerate(zip(curves.items(), eers, strict=True)):
        colour, dashes = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        drawn = (curve.p_fa > 0) & (curve.p_miss > 0)
        axes.plot(
            ndtri(curve.p_fa[drawn]),
            ndtri(curve.p_miss[drawn]),
            color=colour,
            linestyle=dashes,
            label=f"{name}, EER {100 * eer.rate:.2f} %",
        )
        if eer.p_fa > 0 and eer.p_miss > 0:
            dot = ndtri(eer.p_fa), ndtri(eer.p_miss)
            axes.plot(*dot, "o", color=colour, markeredgecolor="white", zorder=3)
    ticks = [tick for tick in DET_TICKS if low <= ndtri(tick / 100) <= high]
    places, names = ndtri(np.array(ticks) / 100), [f"{tick:g}" for tick in ticks]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(title="Detection error trade-off", xlabel="False accept rate (%)")
    axes.set_ylabel("Miss rate (%)")
    figure.legend(loc="outside lower center")
    save(figure, path)


def plot_scores(
    targets: npt.ArrayLike,
    nontargets: npt.ArrayLike,
    path: str | Path,
    thresholds: Mapping[str, float] | None = None,
    unit: str = "cosine",
) -> None:
    """Histograms of both classes, each with area 1, and what thresholds make of them.

    Args:
        targets, nontargets: scores (n,) and (m,).
        thresholds: by name; each is drawn, with both error rates in the legend.
        unit: what the scores are.

    Raises:
        UsageError: a class is empty, a score is not finite, or the file cannot be written.
    """
    target = checked_scores(targets, "target")
    nontarget = checked_scores(nontargets, "non-target")
    figure, axes = _figure(9.0, 4.5)
    edges = np.histogram_bin_edges(np.concatenate([target, nontarget]), bins=60).tolist()
    classes = [("Same speaker", target), ("Different speakers", nontarget)]
    for (name, scores), colour in zip(classes, COLOURS, strict=False):
        label = f"{name} ({len(scores):,} trials)"
        axes.hist(scores, edges, density=True, color=colour, alpha=0.5, label=label)
        axes.hist(scores, edges, density=True, histtype="step", color=colour)
    for index, (name, threshold) in enumerate((thresholds or {}).items()):
        p_miss, p_fa = error_rates(target, nontarget, threshold)
        rates = f"misses {100 * p_miss:.2f} %, false accepts {100 * p_fa:.2f} %"
        axes.axvline(
            threshold,
            color="black",
            linewidth=1.2,
            linestyle=DASHES[index % len(DASHES)],
            label=f"{name}: {threshold:.3f}\n{rates}",
        )
    axes.set(title="Scores of the trials", xlabel=f"Score ({unit})", ylabel="Density")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    save(figure, path)


def plot_claims(
    claims: Sequence[tuple[str, str, float]],
    threshold: float,
    path: str | Path,
    unit: str = "cosine",
) -> None:
    """One row a claim, its score against the threshold; false claims in another colour and mark.

    Args:
        claims: the voice claimed, the voice that spoke, and their score.
        threshold: scores from here on are accepted.
        unit: what the scores are.

    Raises:
        UsageError: the file cannot be written.
    """
    figure, axes = _figure(9.0, 1.2 + 0.32 * len(claims))
    for true, name, colour, mark in (
        (True, "true claim", COLOURS[0], "o"),
        (False, "false claim", COLOURS[1], "X"),
    ):
        rows = [row for row, (claimed, spoke, _) in enumerate(claims) if (claimed == spoke) == true]
        scores = [claims[row][2] for row in rows]
        axes.hlines(rows, threshold, scores, color=colour, linewidth=1.5)
        axes.scatter(scores, rows, s=55, marker=mark, color=colour, label=name, zorder=3)
    axes.axvline(threshold, color="black", linewidth=1.2, label=f"threshold {threshold:.3f}")
    names = [f"{spoke}\nas {claimed}" for claimed, spoke, _ in claims]
    axes.set_yticks(range(len(claims)), names, fontsize=6)
    axes.invert_yaxis()
    axes.set(title="Accepted to the right, rejected to the left", xlabel=f"Score ({unit})")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    save(figure, path)


def plot_history(
    records: Sequence[Mapping[str, object]], path: str | Path, shares: Collection[str] = SHARES
) -> None:
    """Learning curves: one panel for each key of the records, over their ``step``.

    A record may lack a key that others have, or hold no finite number there. ``lr``, the learning
    rate, is drawn on a logarithmic axis.

    Args:
        shares: keys of numbers between 0 and 1, which are drawn in per cent.

    Raises:
        UsageError: no record holds a step and another number, or the file cannot be written.
    """
    keys = list(dict.fromkeys(key for record in records for key in record if key != "step"))
    series = {key: _series(records, key) for key in keys}
    series = {key: points for key, points in series.items() if len(points)}
    if not series:
        raise UsageError(f"{path}: no record holds a step and a number to draw over it.")
    figure, _ = _figure(8.0, 1.0 + 2.2 * len(series), panels=len(series))
    for index, (axes, (key, points)) in enumerate(zip(figure.axes, series.items(), strict=True)):
        steps, values = points.T
        share = key in shares
        axes.plot(
            steps,
            100 * values if share else values,
            color=COLOURS[index % len(COLOURS)],
            marker="o" if len(steps) <= 50 else "",
            markersize=4,
        )
        words = {"eer": "EER", "lr": "learning rate", "2s": "2 s"}
        name = " ".join(words.get(word, word) for word in key.split("_"))
        axes.set_ylabel(f"{name} (%)" if share else name)
        if key == "lr" and (values > 0).all():
            axes.set_yscale("log")
        elif share:
            axes.set_ylim(bottom=0)
    figure.axes[0].set_title("Training")
    figure.axes[-1].set_xlabel("Step")
    save(figure, path)


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, Axes]:
    """A figure of so many inches, with panels above each other, and its first panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    rows = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    for axes in rows:
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, rows[0]


def save(figure: Figure, path: str | Path, **options: Any) -> None:
    """Write a figure in the format that the file's ending names, with ``savefig``'s ``options``.

    Raises:
        UsageError: the ending is no picture's, or it cannot be written.
    """
    kind, known = Path(path).suffix[1:].lower(), figure.canvas.get_supported_filetypes()
    if kind not in known:
        kinds = ", ".join(sorted(known))
        raise UsageError(f"{path}: cannot be written: no picture ends so. Choose of {kinds}.")
    with whole_file(Path(path)) as part:
        figure.savefig(part, format=kind, **options)


def _series(records: Sequence[Mapping[str, object]], key: str) -> FloatArray:
    """(n, 2): step and value, where a record has both as finite numbers."""
    pairs = [(record.get("step"), record.get(key)) for record in records]
    kept = [
        (step, value)
        for step, value in pairs
        if isinstance(step, int | float) and isinstance(value, int | float) and np.isfinite(value)
    ]
    return np.array(kept, dtype=np.float64).reshape(-1, 2)
