"""A figure: what is expected, what each round measured, and whether it was reached."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie, between neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@dataclass(frozen=True)
class Figure:
    """``values`` has one value a round; their median counts. ``detail`` says what stands behind it."""

    benchmark: str
    title: str
    unit: str
    limit: float
    values: Sequence[float]
    detail: str = ""
    at_least: bool = False
    """Whether ``limit`` is a lower bound; else it is an upper one."""

    @property
    def measured(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def expected(self) -> str:
        return f"{'>=' if self.at_least else '<='} {number(self.limit)} {self.unit}"

    @property
    def spread(self) -> str:
        """The tenth and the ninetieth percentile of the rounds."""
        return f"{number(quantile(self.values, 0.1))} - {number(quantile(self.values, 0.9))}"

    def form(self) -> dict[str, Any]:
        """For machines."""
        return {
            "benchmark": self.benchmark,
            "title": self.title,
            "unit": self.unit,
            "limit": self.limit,
            "at_least": self.at_least,
            "measured": self.measured,
            "p10": quantile(self.values, 0.1),
            "p90": quantile(self.values, 0.9),
            "rounds": len(self.values),
            "reached": self.reached,
            "detail": self.detail,
        }


def number(value: float) -> str:
    """Three digits that count, and thousands with their comma."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(figures: Sequence[Figure]) -> str:
    """The figures, a line each and what stands behind it below."""
    head = ("benchmark", "figure", "expected", "measured", "p10 - p90", "reached")
    rows = [
        (one.benchmark, one.title, one.expected, number(one.measured), one.spread, "yes" if one.reached else "NO")
        for one in figures
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    lines = [line(head), "  ".join("-" * width for width in widths)]
    for one, row in zip(figures, rows, strict=True):
        lines.append(line(row))
        if one.detail:
            lines.append(" " * (widths[0] + 2) + one.detail)
    return "\n".join(lines)
