"""Every figure that a sweep has something for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from scp_ray.errors import ScpError
from scp_ray.ledger import Sweep
from scp_ray.places import AnyPath
from scp_ray.report.figures.channel_atlas import channel_atlas
from scp_ray.report.figures.channel_scores import channel_scores
from scp_ray.report.figures.class_rates import class_rates
from scp_ray.report.figures.drawn import Drawn
from scp_ray.report.figures.fate_by_axis import every_axis, fate_by_axis
from scp_ray.report.figures.heat_map import heat_map
from scp_ray.report.figures.sensitive_maps import sensitive_maps
from scp_ray.report.figures.trade_off import trade_off

_OF_ROUNDS = re.compile(r"(trade-off|fate-by-.+|heat-map)\.(png|svg|csv)")


def all_figures(
    sweep: Sweep, *, published: pd.DataFrame | None = None, maps: bool = True
) -> tuple[list[Drawn], list[str]]:
    """The figures in the order of a report, and for each one that was not drawn "name: why".

    Args:
        published: columns method, f1, eodd: points of the trade-off plane that others have published.
        maps: also ``sensitive_maps``, the only one that loads the data set and a model.
    """
    wanted: list[tuple[str, Callable[[], Drawn]]] = [("trade-off", partial(trade_off, sweep, published=published))]
    wanted += [(f"FATE by {axis}", partial(fate_by_axis, sweep, axis)) for axis in every_axis(sweep)]
    wanted += [("heat-map", partial(heat_map, sweep)), ("class-rates", partial(class_rates, sweep))]
    wanted += [("channel-scores", partial(channel_scores, sweep)), ("channel-atlas", partial(channel_atlas, sweep))]
    if maps:
        wanted.append(("sensitive-maps", partial(sensitive_maps, sweep)))
    drawn, reasons = [], []
    for name, make in wanted:
        try:
            drawn.append(make())
        except ScpError as error:
            reasons.append(f"{name}: {error}")
    return drawn, reasons


def remove_undrawn(folder: AnyPath, drawn: Sequence[Drawn]) -> None:
    """Remove figures of rounds that an earlier report drew and this one did not: the sweep is no longer what they show.

    What else lies in the folder stays, also figures of predictions, channels and images: where those are out of reach
    they could not be made again.
    """
    names = {figure.name for figure in drawn}
    for path in folder.glob("*"):
        if _OF_ROUNDS.fullmatch(path.name) and path.stem not in names:
            path.unlink(missing_ok=True)
