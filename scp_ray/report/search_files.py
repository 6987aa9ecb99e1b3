"""The files of a search's result: tables as CSV, figures as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.ledger.files import write_bytes
from scp_ray.places import AnyPath
from scp_ray.report.figures.fate_curves import save_figure
from scp_ray.report.figures.hypervolume import draw_hypervolume
from scp_ray.report.figures.pareto import draw_pareto
from scp_ray.report.search_result import SearchResult
from scp_ray.report.search_words import plane_caption, volume_caption


def write_search(sweep: Sweep, result: SearchResult, importance: Mapping[str, float]) -> list[AnyPath]:
    """report/search-*: configurations, best, hypervolume and importance. Raises LedgerError where the disk refuses."""
    folder = sweep.ledger.root / "report"
    files = save_figure(draw_pareto(result, plane_caption(sweep, result)), folder / "search-pareto")
    files += save_figure(draw_hypervolume(result, volume_caption(result)), folder / "search-hypervolume")
    tables = {"configurations": result.configurations, "best": result.best, "hypervolume": result.volumes}
    if importance:
        shares = {"parameter": list(importance), "importance": list(importance.values())}
        tables["importance"] = pd.DataFrame(shares).assign(configurations=len(result.configurations))
    else:  # one of an earlier report, by other configurations or another rule, says nothing of this one
        (folder / "search-importance.csv").unlink(missing_ok=True)
    for name, table in tables.items():
        files.append(folder / f"search-{name}.csv")
        write_bytes(files[-1], table.to_csv(index=False).encode())
    return files


def write_revealed(sweep: Sweep, table: pd.DataFrame) -> AnyPath:
    """report/search-test.csv: what was selected, on validation and test."""
    path = sweep.ledger.root / "report" / "search-test.csv"
    write_bytes(path, table.to_csv(index=False).encode())
    return path
