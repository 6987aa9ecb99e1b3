"""How all figures look: colours, markers, sizes, and the caption below them.

Sizes are those of a paper: what is drawn at a column's width keeps its letters at 6 points or more there. The ground is
white and drawn, so that a figure reads the same on a dark page.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart with any colour vision; black first
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7")
MARKERS = "osD^vPX*"
STYLES = ("-", "--", ":", "-.")
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, PALE, GROUND = "#666666", "#DDDDDD", "#FFFFFF"

SINGLE, DOUBLE = 3.5, 7.0  # inches: one column, two
SMALL = 6  # points: captions, and numbers inside of a figure
MOST_BANDS = 4  # lines; bands of more of them on top of each other cannot be read

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "axes.edgecolor": "#333333",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.5,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Matplotlib's own defaults apply outside of the function alone."""

    @functools.wraps(draw)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> R:
        with matplotlib.rc_context(_RC):
            return draw(*arguments, **named)

    return wrapped


def new_figure(width: float, height: float) -> Figure:
    """An empty one of this many inches, whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def look(position: int) -> dict[str, Any]:
    """Colour, dash and marker of the line at a place: each differs before the colours repeat."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": STYLES[position // len(COLOURS) % len(STYLES)],
        "marker": MARKERS[position % len(MARKERS)],
    }


def errorbars(axes: Axes, x: Any, y: Any, **more: Any) -> None:
    """Thin bars with small caps; without values that are NaN."""
    axes.errorbar(x, y, **({"elinewidth": 0.8, "capsize": 1.5, "capthick": 0.8} | more))


def is_dark(*colour: float) -> bool:
    """Whether white letters have more contrast on red, green and blue (0 to 1) than black ones, as WCAG 2 counts."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (1.05 / (luminance + 0.05)) > ((luminance + 0.05) / 0.05)


def legend_above(figure: Figure, columns: int, **more: Any) -> None:
    """One legend for the whole figure, over its panels: of what any of them shows."""
    once: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            once.setdefault(label, handle)
    layout = {"loc": "outside upper left", "ncols": columns, "columnspacing": 1.2, "alignment": "left"}
    figure.legend(once.values(), once, **layout | more)


@contextmanager
def captioned(figure: Figure, caption: str) -> Iterator[None]:
    """The figure with its caption below it inside of the block; it grows by the caption's lines, and shrinks again."""
    width, height = (float(side) for side in figure.get_size_inches())
    lines = textwrap.wrap(caption, int((width - 0.1) * 72 / (SMALL * 0.53)))
    room = (len(lines) * SMALL * 1.25 + 6) / 72
    share = room / (height + room)
    engine: Any = figure.get_layout_engine()
    figure.set_size_inches(width, height + room)
    text = figure.text(
        0.05 / width, 0.03 / (height + room), "\n".join(lines), fontsize=SMALL, va="bottom", linespacing=1.2
    )
    text.set_in_layout(False)
    engine.set(rect=(0, share, 1, 1 - share))
    try:
        yield
    finally:
        text.remove()
        engine.set(rect=(0, 0, 1, 1))
        figure.set_size_inches(width, height)
