"""Hypervolume over trials: when the search last found something better."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scp_ray.report.figures.pareto import FRONT
from scp_ray.report.search_result import SearchResult


def draw_hypervolume(result: SearchResult, caption: str) -> Figure:
    """A stair of ``SearchResult.volumes``."""
    figure = Figure(figsize=(5.1, 3.4), layout="constrained")
    axes = figure.add_subplot()
    volumes = result.volumes
    axes.step(volumes["configurations"], volumes["hypervolume"], where="post", color=FRONT, linewidth=1.6)
    axes.plot(volumes["configurations"], volumes["hypervolume"], "o", color=FRONT, ms=3)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("configurations that are done, in the order of their numbers")
    axes.set_ylabel("dominated hypervolume")
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(textwrap.fill(caption, 96), fontsize=7, x=0.02, ha="left")
    return figure
