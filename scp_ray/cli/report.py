"""Draw FATE against the pruning round and the arms' trade-offs, and print the tables behind them.

Of a search: its Pareto set, the best under each constraint, hypervolume over trials, importance of the parameters.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from scp_ray.cli.output import print_json

if TYPE_CHECKING:
    from scp_ray.ledger import Sweep
    from scp_ray.report.search_result import SearchResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``scp-ray report``."""
    parser.add_argument("dir", metavar="DIR", help="a sweep's folder; it may still be running")
    parser.add_argument(
        "--show-test",
        action="store_true",
        help="also test numbers of what validation has selected; counted in sweep.json, refused while the sweep runs",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object: the tables and the files")


def run(options: argparse.Namespace) -> int:
    """Figures and tables of what the ledger holds so far."""
    from scp_ray.ledger import load_sweep
    from scp_ray.ledger.files import write_bytes
    from scp_ray.report.figures.fate_curves import draw_fate_curves, save_figure
    from scp_ray.report.tables import caption, fate_points, fate_table, format_table

    sweep = load_sweep(options.dir)
    table = fate_table(sweep)
    folder = sweep.ledger.root / "report"
    files = save_figure(draw_fate_curves(table, caption(sweep), fate_points(sweep)), folder / "fate-curves")
    files.append(folder / "fate-curves.csv")
    write_bytes(files[-1], table.to_csv(index=False).encode())
    found = _search(sweep, show_test=options.show_test)
    files += found.pop("files")
    lines = found.pop("lines")
    if options.json:
        print_json({"table": table.to_dict("records"), "files": [str(path) for path in files], "search": found})
        return 0
    print(format_table(table))
    print(f"\n{caption(sweep)}\n")
    for line in lines:
        print(line)
    for note in dict.fromkeys(note for data in sweep.definition.get("data", {}).values() for note in data["notes"]):
        print(f"Data: {note}")
    for path in files:
        print(path)
    return 0


def _search(sweep: Sweep, *, show_test: bool) -> dict[str, Any]:
    """The trade-offs of a sweep with more than one configuration: files, lines to print, and tables for --json."""
    from scp_ray.report.search_files import write_revealed, write_search
    from scp_ray.report.search_result import search_result
    from scp_ray.report.search_words import best_lines, front_table, plane_caption

    if not (sweep.trials["status"] == "done").any():
        return {"files": [], "lines": ["Trade-offs are drawn once a trial is done.\n"]}
    result = search_result(sweep)
    importance = _importance(sweep, result)
    files = write_search(sweep, result, importance)
    lines = [front_table(result).to_string(index=False), "", *best_lines(result)]
    if importance:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in importance.items())
        lines.append(f"importance of the parameters (PED-ANOVA, shares of 1): {shares}")
    lines += ["", plane_caption(sweep, result), ""]
    tables = {"configurations": result.configurations, "best": result.best, "hypervolume": result.volumes}
    content: dict[str, Any] = {name: table.to_dict("records") for name, table in tables.items()}
    content |= {"reference": result.reference, "left_out": result.left_out, "importance": importance}
    if show_test:
        from scp_ray.ledger.reveals import count_reveal
        from scp_ray.report.test_numbers import revealed

        reveals = count_reveal(sweep.ledger)
        table = revealed(sweep, result)
        files.append(write_revealed(sweep, table))
        lines += [table.drop(columns="configurations").to_string(index=False, float_format="{:.4f}".format)]
        lines += [f"\n{_test_words(sweep, result, reveals)}\n"]
        content["test"] = {"rows": table.to_dict("records"), "reveals": reveals}
    return content | {"files": files, "lines": lines}


def _importance(sweep: Sweep, result: SearchResult) -> dict[str, float]:
    from scp_ray.report.objectives import search_block
    from scp_ray.tune.importance import parameter_importance

    settings = {arm["label"]: arm["settings"] for arm in sweep.definition["arms"]}
    table = result.configurations
    costs = [[part.sign * row[part.name] for part in result.objectives] for row in table.to_dict("records")]
    space = (search_block(sweep.definition) or {}).get("space", [])
    return parameter_importance([settings[arm] for arm in table["arm"]], costs, space)


def _test_words(sweep: Sweep, result: SearchResult, reveals: int) -> str:
    rules = ", ".join(sorted({arm["config"]["select"] for arm in sweep.definition["arms"]}))
    return (
        f"Test split, only for what validation has selected: the front of {len(result.configurations)} configurations "
        f"and the best of them under each constraint, each at the round that select chose ({rules}). optimism is "
        f"validation minus test, turned so that positive means validation looked better. Test numbers of this sweep "
        f"have now been shown {reveals} time{'' if reveals == 1 else 's'} (sweep.json)."
    )
