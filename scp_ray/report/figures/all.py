"""Every figure that a sweep has something for."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from scp_ray.errors import ScpError
from scp_ray.ledger import Sweep
from scp_ray.report.figures.channel_atlas import channel_atlas
from scp_ray.report.figures.channel_scores import channel_scores
from scp_ray.report.figures.class_rates import class_rates
from scp_ray.report.figures.drawn import Drawn
from scp_ray.report.figures.fate_by_axis import every_axis, fate_by_axis
from scp_ray.report.figures.heat_map import heat_map
from scp_ray.report.figures.sensitive_maps import sensitive_maps
from scp_ray.report.figures.trade_off import trade_off


def all_figures(
    sweep: Sweep, *, published: pd.DataFrame | None = None, maps: bool = True
) -> tuple[list[Drawn], list[str]]:
    """The figures in the order of a report, and for each one that was not drawn "name: why".

    Args:
        published: columns method, f1, eodd: points of the trade-off plane that others have published.
        maps: also ``sensitive_maps``, the only one that loads the data set and a model.
    """
    wanted: list[tuple[str, Callable[[], Drawn]]] = [("trade-off", lambda: trade_off(sweep, published=published))]
    for axis in every_axis(sweep):
        wanted.append((f"FATE by {axis}", lambda axis=axis: fate_by_axis(sweep, axis)))  # type: ignore[misc]
    rest = [heat_map, class_rates, channel_scores, channel_atlas, *([sensitive_maps] if maps else [])]
    for draw in rest:
        wanted.append((draw.__name__.replace("_", "-"), lambda draw=draw: draw(sweep)))  # type: ignore[misc]
    drawn, reasons = [], []
    for name, make in wanted:
        try:
            drawn.append(make())
        except ScpError as error:
            reasons.append(f"{name}: {error}")
    return drawn, reasons
