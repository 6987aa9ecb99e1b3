"""The figures that carry the report's own table or search: FATE by arm, the plane of a search, its hypervolume."""

from __future__ import annotations

from scp_ray.ledger import Sweep
from scp_ray.report.figures.drawn import Drawn, NotDrawnError
from scp_ray.report.figures.fate_curves import draw_fate_curves, draws_bands
from scp_ray.report.figures.hypervolume import draw_hypervolume
from scp_ray.report.figures.pareto import draw_pareto
from scp_ray.report.recorded import Recorded, Tracked, recorded
from scp_ray.report.search_result import SearchResult
from scp_ray.report.search_words import plane_caption, volume_caption
from scp_ray.report.tables import caption, fate_points, table_of_arms


def fate_by_arm(sweep: Recorded | Tracked) -> Drawn:
    """FATE of Eodd against the pruning round, a line per arm. A sweep from MLflow alone has no noise floors.

    Raises NotDrawnError where no round has been recorded yet.
    """
    sweep = recorded(sweep)
    if not len(sweep.rounds):
        raise NotDrawnError("no round has been recorded yet.")
    table = table_of_arms(sweep)
    figure = draw_fate_curves(table, "", fate_points(sweep))
    return Drawn("fate-curves", "FATE by arm", caption(sweep, bands=draws_bands(table)), figure, table)


def search_plane(sweep: Sweep, result: SearchResult) -> Drawn:
    """What the configurations trade off: a panel per pair of objectives."""
    figure = draw_pareto(result, "")
    return Drawn("search-pareto", "Trade-offs", plane_caption(sweep, result), figure, result.configurations)


def search_volume(result: SearchResult) -> Drawn:
    """When the best was last improved: hypervolume after each configuration."""
    figure = draw_hypervolume(result, "")
    return Drawn("search-hypervolume", "Hypervolume", volume_caption(result), figure, result.volumes)
