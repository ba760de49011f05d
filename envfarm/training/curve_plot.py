"""Draws curves as SVG text: nothing but lines, axes and names. PURE."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 380, 64, 150, 36, 44
_COLOURS = ("#1f5fa8", "#c2541b", "#2f7d4f", "#8a3a8f", "#7a6a12", "#3b8ea5", "#a83232", "#555555")
_MOST_POINTS = 600
_TICKS = 5


@dataclass(frozen=True)
class Curve:
    """One line: its name, and points in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def draw_curves(title: str, x_name: str, curves: Sequence[Curve]) -> str:
    """Return an SVG document; long curves are drawn as means of equal pieces."""
    drawn = [Curve(curve.name, _thinned(curve.points)) for curve in curves if curve.points]
    xs = [x for curve in drawn for x, _ in curve.points] or [0.0]
    ys = [y for curve in drawn for _, y in curve.points] or [0.0]
    x_range, y_range = _range(xs), _range(ys)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - (y - y_range[0]) / (y_range[1] - y_range[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return across, down

    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{escape(x_name)}</text>',
    ]
    for tick in range(_TICKS):
        share = tick / (_TICKS - 1)
        x, y = x_range[0] + share * (x_range[1] - x_range[0]), y_range[0] + share * (y_range[1] - y_range[0])
        across, down = place(x, y)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down:.1f}" y2="{down:.1f}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 8}" y="{down + 4:.1f}" text-anchor="end">{y:.4g}</text>'
            f'<text x="{across:.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{x:.4g}</text>'
        )
    for number, curve in enumerate(drawn):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in curve.points)
        height = _TOP + 16 * number + 8
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
            f'<text x="{_WIDTH - _RIGHT + 10}" y="{height}" fill="{colour}">{escape(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    every = max(-(-len(points) // _MOST_POINTS), 1)
    pieces = [points[start : start + every] for start in range(0, len(points), every)]
    return [(sum(x for x, _ in piece) / len(piece), sum(y for _, y in piece) / len(piece)) for piece in pieces]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
