"""Two pictures of a report for other pages: the matrix, and accepted share over budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from advgan.report.draw import AXIS_NAMES
from advgan.report.schema import Report
from speakerguard.evaluation.plots import COLOURS, DASHES, save


def draw_matrix(report: Report, path: Path) -> bool:
    """Attacks down, defences across, share accepted in each cell; False where nothing was run.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    attacks = [a for a in report.attacks if a.cells]
    defences = [d for d in report.defences if d.run]
    if not attacks or not defences:
        return False
    shares = np.full((len(attacks), len(defences)), np.nan)
    figure = Figure(figsize=(3.4 + 1.1 * len(defences), 1.6 + 0.28 * len(attacks)), dpi=150,
                    layout="constrained")  # fmt: skip
    axes = figure.subplots()
    for row, attack in enumerate(attacks):
        for column, defence in enumerate(defences):
            cell = attack.cells.get(defence.title)
            if cell is not None and cell.accepted.value is not None:
                if attack.label != "target":  # genuine users are to be accepted
                    shares[row, column] = cell.accepted.value
                text = f"{'▲ ' if cell.adaptive else ''}{100 * cell.accepted.value:.0f}"
                colour = "white" if (shares[row, column] or 0) > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.imshow(np.ma.masked_invalid(shares), cmap="Reds", vmin=0, vmax=1, aspect="auto")
    names = ["verifier alone" if d.title == "none" else d.title for d in defences]
    axes.set_xticks(range(len(names)), names, rotation=25, ha="left", fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(attacks)), [attack.title for attack in attacks], fontsize=8)
    axes.set_xlabel(
        f"Accepted (%) at {report.threat.point}, threshold {report.threat.threshold:.3f}; "
        "▲ adapts to the defence", fontsize=8,
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    save(figure, path, metadata={"Software": "speakerguard"})
    return True


def draw_curves(report: Report, path: Path) -> bool:
    """A panel for each kind of budget; False where no attack was run at several.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    axes_names = list(dict.fromkeys(curve.axis for curve in report.curves))
    if not axes_names:
        return False
    figure = Figure(figsize=(4.4 * len(axes_names), 3.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(axes_names), squeeze=False, sharey=True)[0]
    for panel, axis in zip(panels, axes_names, strict=True):
        mine = [curve for curve in report.curves if curve.axis == axis]
        for index, curve in enumerate(mine):
            at = [point.at for point in curve.points]
            rates = [point.accepted for point in curve.points]
            style = {"color": COLOURS[index % len(COLOURS)], "marker": "o", "markersize": 4}
            shares = [100 * (rate.value or 0) for rate in rates]
            panel.plot(at, shares, DASHES[index % len(DASHES)], label=curve.name, **style)
            low, high = ([100 * (getattr(r, end) or 0) for r in rates] for end in ("low", "high"))
            panel.fill_between(at, low, high, color=style["color"], alpha=0.12)
        if axis in ("epsilon", "queries"):
            panel.set_xscale("log")
            at = sorted({point.at for curve in mine for point in curve.points})
            panel.set_xticks(at, [f"{value:g}" for value in at], fontsize=8)
            panel.minorticks_off()
        panel.set(xlabel=AXIS_NAMES[axis], ylim=(-3, 103))
        panel.grid(color="0.9")
        panel.legend(fontsize=7)
    panels[0].set_ylabel("accepted (%)")
    save(figure, path, metadata={"Software": "speakerguard"})
    return True
