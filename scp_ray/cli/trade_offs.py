"""The part of ``scp-ray report`` that tells what a sweep's configurations reach, and what a search has found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from scp_ray.ledger import Sweep
    from scp_ray.report.search_result import SearchResult


def trade_offs(sweep: Sweep, *, show_test: bool) -> dict[str, Any]:
    """Write them; returns ``files``, ``lines`` to print, and the tables for --json.

    Raises SweepHeldError where test numbers are asked for while the sweep runs.
    """
    from scp_ray.report.search_files import write_revealed, write_search
    from scp_ray.report.search_result import NothingWholeError, search_result
    from scp_ray.report.search_words import best_lines, chance_lines, front_table, plane_caption

    try:
        result = search_result(sweep)
    except NothingWholeError as error:
        return {"files": [], "lines": [f"No trade-offs yet: {error}\n"]}
    importance = _importance(sweep, result)
    files = write_search(sweep, result, importance)
    lines = [front_table(result).to_string(index=False), "", *best_lines(result)]
    lines += _importance_lines(sweep, result, importance)
    lines += ["", plane_caption(sweep, result), "", *chance_lines(sweep)]
    tables = {"configurations": result.configurations, "best": result.best, "hypervolume": result.volumes}
    content: dict[str, Any] = {name: table.to_dict("records") for name, table in tables.items()}
    content |= {"reference": result.reference, "left_out": result.left_out, "importance": importance}
    if show_test:
        from scp_ray.ledger.reveals import count_reveal
        from scp_ray.report.test_numbers import remove_test_files, revealed

        reveals = count_reveal(sweep.ledger)
        remove_test_files(sweep)
        table = revealed(sweep, result)
        files.append(write_revealed(sweep, table))
        shown = table.drop(columns=["n", "configurations"])
        lines += [shown.to_string(index=False, float_format="{:.4f}".format, na_rep="")]
        words = _test_words(sweep, table, result, reveals)
        lines += [f"\n{words}\n"]
        content["test"] = {"rows": table.to_dict("records"), "reveals": reveals, "words": words}
    return content | {"files": files, "lines": lines}


def _importance(sweep: Sweep, result: SearchResult) -> dict[str, float]:
    from scp_ray.report.objectives import search_block
    from scp_ray.tune.importance import parameter_importance

    settings = {arm["label"]: arm["settings"] for arm in sweep.definition["arms"]}
    table = result.configurations
    costs = [[part.sign * row[part.metric] for part in result.objectives] for row in table.to_dict("records")]
    space = (search_block(sweep.definition) or {}).get("space", [])
    return parameter_importance([settings[arm] for arm in table["arm"]], costs, space)


def _importance_lines(sweep: Sweep, result: SearchResult, importance: Mapping[str, float]) -> list[str]:
    from scp_ray.report.objectives import search_block
    from scp_ray.tune.importance import FEWEST

    of = len(result.configurations)
    if importance:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in importance.items())
        told = f"PED-ANOVA, the best tenth of {of} configurations against all; shares of 1, also where nothing decides"
        return [f"importance of the parameters ({told}): {shares}"]
    if search_block(sweep.definition) and of < FEWEST:
        return [f"importance of the parameters: told from {FEWEST} configurations on; there are {of}"]
    return []


def _test_words(sweep: Sweep, table: pd.DataFrame, result: SearchResult, reveals: int) -> str:
    arms = [arm for arm in sweep.definition["arms"] if arm["label"] in set(table["arm"])]
    seeds = ", ".join(map(str, sorted({entry["seed"] for arm in arms for entry in arm["trials"]})))
    images = ", ".join(f"{n:,}" for n in sorted(set(table["n"])))
    rules = ", ".join(sorted({arm["config"]["select"] for arm in sweep.definition["arms"]}))
    return (
        f"Test split, n = {images} images, means over seeds (of {seeds}), only for what validation has selected: the "
        f"front of {result.tried} configurations and the best of them under each constraint, each at the round that "
        f"select chose ({rules}). floor is the noise floor of the test gap beside it: what a fair classifier would "
        "show on these images. optimism is validation minus test, turned so that positive means validation looked "
        "better. Test numbers of this sweep have now been "
        f"shown {reveals} time{'' if reveals == 1 else 's'} (sweep.json)."
    )
