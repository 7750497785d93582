"""Charts of the page as inline SVG, drawn from the report's own numbers.

Colours are CSS variables, so that they follow light and dark; series also differ in dashes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from scipy.special import ndtri

from advgan.report.schema import Curve, DetLine, Histogram

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 40
DET_TICKS = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90, 95)  # per cent
DET_LOW, DET_HIGH = 0.001, 0.97
AXIS_NAMES = {
    "epsilon": "largest change of a sample, ε (full scale 1)",
    "snr": "dB of speech over perturbation",
    "queries": "queries",
    "target_seconds": "seconds of the target's speech",
}

Point = tuple[float, float]


def histogram(
    parts: Sequence[Histogram], edges: Sequence[float], marks: dict[str, float], unit: str
) -> str:
    """Outlines of the populations, as shares, and the thresholds; scores are in ``unit``."""
    low, high = edges[0], edges[-1]
    peak = max((max(p.counts) / max(sum(p.counts), 1) for p in parts), default=1.0) or 1.0
    canvas = _Canvas("Scores of the populations with the threshold", low, high, 0.0, peak * 1.05)
    for index, part in enumerate(parts):
        total = max(sum(part.counts), 1)
        outline: list[Point] = [(edges[0], 0.0)]
        for left, right, count in zip(edges, edges[1:], part.counts, strict=False):
            outline += [(left, count / total), (right, count / total)]
        canvas.line([*outline, (edges[-1], 0.0)], index, filled=True)
    for name, at in marks.items():
        canvas.mark(at, f"{name} {at:.3f}")
    canvas.ticks_x(_round_ticks(low, high))
    canvas.axis_names(f"score ({unit})", "share of the population")
    names = [f"{p.population} ({sum(p.counts):,})" for p in parts]
    return canvas.done() + legend(names)


def det(lines: Sequence[DetLine]) -> str:
    """Miss against false accept rate on normal-deviate axes; a rate of 0 lies at the edge."""
    low, high = float(ndtri(DET_LOW)), float(ndtri(DET_HIGH))
    canvas = _Canvas("Detection error trade-off", low, high, low, high, height=420)

    def place(rate: float) -> float:
        return float(ndtri(min(max(rate, DET_LOW), DET_HIGH)))

    canvas.line([(low, low), (high, high)], None)
    for index, line in enumerate(lines):
        pairs = zip(line.p_fa, line.p_miss, strict=True)
        canvas.line([(place(fa), place(miss)) for fa, miss in pairs], index)
    ticks = {place(tick / 100): f"{tick:g}" for tick in DET_TICKS}
    canvas.ticks_x(ticks)
    canvas.ticks_y(ticks)
    canvas.axis_names("false accept rate (%)", "miss rate (%)")
    return canvas.done() + legend([f"{line.name}, EER {100 * line.eer:.1f} %" for line in lines])


def security(curves: Sequence[Curve], axis: str) -> str:
    """Accepted share over what attacks spend on one axis, with intervals."""
    mine = [curve for curve in curves if curve.axis == axis]
    values = [point.at for curve in mine for point in curve.points]
    logarithmic = axis in ("epsilon", "queries") and min(values) > 0

    def place(value: float) -> float:
        return math.log10(value) if logarithmic else value

    low, high = place(min(values)), place(max(values))
    margin = 0.05 * ((high - low) or 1.0)
    canvas = _Canvas(
        f"Accepted share over {AXIS_NAMES[axis]}", low - margin, high + margin, -0.02, 1.02
    )
    for index, curve in enumerate(mine):
        canvas.line([(place(p.at), p.accepted.value or 0.0) for p in curve.points], index)
        for point in curve.points:
            canvas.whisker(place(point.at), point.accepted.low, point.accepted.high, index)
            canvas.dot(place(point.at), point.accepted.value or 0.0, index)
    canvas.ticks_x({place(value): f"{value:g}" for value in sorted(set(values))})
    canvas.ticks_y({share / 100: f"{share}" for share in range(0, 101, 20)})
    canvas.axis_names(AXIS_NAMES[axis], "accepted (%)")
    return canvas.done() + legend([curve.name for curve in mine])


def legend(names: Sequence[str]) -> str:
    """A list of the series, with their colours and dashes."""
    items = "".join(
        f'<li><svg width="30" height="8" aria-hidden="true"><path class="s{i % 7} d{i % 4}" '
        f'd="M0 4H30"/></svg> {escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


class _Canvas:
    """An SVG with axes, in the units of what is drawn."""

    def __init__(
        self, title: str, left: float, right: float, low: float, high: float, height: int = HEIGHT
    ) -> None:
        self.box = left, right, low, high
        self.height = height
        self.parts = [
            f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}">'
            f"<title>{escape(title)}</title>"
            f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" '
            f'height="{height - TOP - BOTTOM}"/>'
        ]

    def x(self, value: float) -> float:
        left, right, _, _ = self.box
        return LEFT + (value - left) / ((right - left) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        _, _, low, high = self.box
        span = self.height - TOP - BOTTOM
        return self.height - BOTTOM - (value - low) / ((high - low) or 1.0) * span

    def line(self, points: Sequence[Point], index: int | None, filled: bool = False) -> None:
        if not points:
            return
        path = "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        style = "faint" if index is None else f"s{index % 7} d{index % 4}"
        fill = f" f{index % 7}" if filled and index is not None else ""
        self.parts.append(f'<path class="{style}{fill}" d="{path}"/>')

    def dot(self, x: float, y: float, index: int) -> None:
        self.parts.append(
            f'<circle class="p{index % 7}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.5"/>'
        )

    def whisker(self, x: float, low: float | None, high: float | None, index: int) -> None:
        if low is not None and high is not None:
            at = f"{self.x(x):.1f}"
            self.parts.append(
                f'<path class="s{index % 7} thin" d="M{at} {self.y(low):.1f}V{self.y(high):.1f}"/>'
            )

    def mark(self, x: float, name: str) -> None:
        at, right = f"{self.x(x):.1f}", self.x(x) > WIDTH / 2
        side = 'dx="-4" text-anchor="end"' if right else 'dx="4"'
        self.parts.append(
            f'<path class="mark" d="M{at} {TOP}V{self.height - BOTTOM}"/>'
            f'<text x="{at}" y="{TOP + 11}" {side}>{escape(name)}</text>'
        )

    def ticks_x(self, ticks: dict[float, str]) -> None:
        last = -1e9
        for value, name in sorted(ticks.items()):
            at = self.x(value)
            if at - last > 9 * len(name) + 4:
                self.parts.append(
                    f'<text class="tick" text-anchor="middle" x="{at:.1f}" '
                    f'y="{self.height - BOTTOM + 15}">{escape(name)}</text>'
                )
                last = at

    def ticks_y(self, ticks: dict[float, str]) -> None:
        for value, name in ticks.items():
            at = f"{self.y(value):.1f}"
            self.parts.append(
                f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>'
                f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{at}" '
                f'dy="4">{escape(name)}</text>'
            )

    def axis_names(self, across: str, up: str) -> None:
        middle = (TOP + self.height - BOTTOM) / 2
        self.parts.append(
            f'<text text-anchor="middle" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" '
            f'y="{self.height - 6}">{escape(across)}</text>'
            f'<text text-anchor="middle" transform="translate(14 {middle:.0f}) rotate(-90)">'
            f"{escape(up)}</text>"
        )

    def done(self) -> str:
        return "".join([*self.parts, "</svg>"])


def _round_ticks(low: float, high: float) -> dict[float, str]:
    step = next((s for s in (0.1, 0.2, 0.5, 1.0, 2.0) if high - low < 12 * s), 5.0)
    first = math.ceil(low / step)
    count = int((high - first * step) / step) + 1
    return {(first + i) * step: f"{(first + i) * step:.1f}" for i in range(count)}
