"""Pieces of HTML that the page is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from advgan.report.schema import Rate


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already."""
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    label = escape(caption or head[0])
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{columns}</tr></thead><tbody>{body}"
        "</tbody></table></div>"
    )


def terms(terms: dict[str, str]) -> str:
    """A list of terms and what they are, escaped."""
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in terms.items())
    return f"<dl>{items}</dl>"


def bullets(items: Iterable[str]) -> str:
    """A list of what is HTML already; nothing where it is empty."""
    inside = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{inside}</ul>" if inside else ""


def rate(share: Rate) -> str:
    """A share in per cent, with its interval and count."""
    if share.value is None:
        return '<span class="dim">–</span>'
    span = f"{100 * (share.low or 0):.0f}–{100 * (share.high or 0):.0f}"
    return (
        f'{100 * share.value:.1f} % <small class="interval">{span}, {share.count}/{share.cases}'
        "</small>"
    )


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None, places: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{places}f}"
