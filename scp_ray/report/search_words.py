"""What stands beside a search's figures and tables: captions, and the table for the terminal."""

from __future__ import annotations

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.objectives import search_block
from scp_ray.report.search_result import SearchResult

MOST_NAMED = 12  # base models at chance


def plane_caption(sweep: Sweep, result: SearchResult) -> str:
    """What a reader has to know to read the trade-off plane."""
    table = result.configurations
    images = sorted({int(n) for n in sweep.rounds["val_n"]}) if "val_n" in sweep.rounds else []
    seeds = sorted({int(seed) for seed in table["seeds"]})
    rules = sorted({arm["config"]["select"] for arm in sweep.definition["arms"]})
    whose = "the search" if search_block(sweep.definition) else "the grid"
    near = int((table["near_front"] & ~table["front"]).sum())
    parts = [
        f"Validation split, n = {', '.join(map(str, images)) or 'unknown'} images; {len(table)} configurations of "
        f"{whose}, each the mean of {_range(seeds)} seeds at the round that select chose ({', '.join(rules)})",
        "bars: 95 % t intervals, seed variance pooled over configurations"
        if table[f"{result.objectives[0].metric}_low"].notna().any()
        else "no intervals: no configuration has a second seed",
        f"{int(table['front'].sum())} on the front, {near} more cannot be told from it within the intervals",
    ]
    if not table["feasible"].all():
        parts.append(f"{int((~table['feasible']).sum())} break a constraint")
    parts += [f"{count} left out: {why}" for why, count in result.left_out.items()]
    return "; ".join(parts) + (
        f". The front is the best of {result.tried} tried, by the same numbers that it is drawn from: its values are "
        "optimistic."
    )


def volume_caption(result: SearchResult) -> str:
    """What a reader has to know to read the hypervolume."""
    corner = ", ".join(f"{name} {value:.4g}" for name, value in result.reference.items())
    return (
        "Volume that the front of the first configurations dominates (validation, feasible ones alone), below the "
        f"worst seen in each objective, round 0 included: {corner}. {len(result.configurations)} configurations; the "
        "corner moves as more are run, so volumes of two reports do not compare."
    )


def front_table(result: SearchResult) -> pd.DataFrame:
    """The front for the terminal: a row per configuration, best first in the first objective."""
    first = result.objectives[0]
    front = result.front.sort_values(first.metric, ascending=first.direction == "min", kind="stable")
    shown = pd.DataFrame({"number": front["number"], "configuration": front["arm"], "seeds": front["seeds"]})
    for part in result.objectives:
        shown[part.title] = [
            f"{mean:.4f}" + (f" ({low:.4f} to {high:.4f})" if low == low else "")
            for mean, low, high in zip(
                front[part.metric], front[f"{part.metric}_low"], front[f"{part.metric}_high"], strict=True
            )
        ]
    shown["round"] = front["rounds"]
    shown[""] = ["knee" if bent else "" for bent in front["knee"]]
    return shown


def chance_lines(sweep: Sweep) -> list[str]:
    """A warning for each number of classes that names the base models whose round 0 guesses."""
    if not len(sweep.bases):
        return []
    lines = []
    for classes in sorted(sweep.bases["num_classes"].unique()):
        rows, chance = sweep.bases[sweep.bases["num_classes"] == classes], 1 / float(classes)
        doubt = 2 * (chance * (1 - chance) / rows["val_n"]) ** 0.5  # two standard errors of a guesser's accuracy
        weak = rows[rows["val_balanced_accuracy"] <= chance + doubt].to_dict("records")
        names = [f"{row['method']}, seed {row['seed']} ({row['val_balanced_accuracy']:.3f})" for row in weak]
        if names:
            more = f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            lines.append(
                f"warning: base models at chance, {len(names)} of {len(rows)}, by balanced accuracy (guessing gives "
                f"{chance:.3f}): {'; '.join(names[:MOST_NAMED])}{more}. A constant classifier has gap 0 "
                "and no FATE: nothing that starts from such a model can be read as a trade-off."
            )
    return lines


def best_lines(result: SearchResult) -> list[str]:
    """A line per constraint and objective."""
    titles = {part.metric: part.title for part in result.objectives}
    lines = []
    for row in result.best.to_dict("records"):
        scope = "without a constraint" if row["constraint"] == "none" else f"with {row['constraint']}"
        of = f"of {row['configurations']} configurations"
        if not row["configurations"]:
            lines.append(f"best {titles[row['objective']]} {scope}: none keeps it")
            continue
        interval = f" ({row['low']:.4f} to {row['high']:.4f})" if row["low"] == row["low"] else ""
        lines.append(
            f"best {titles[row['objective']]} {scope}: {row['value']:.4f}{interval}, number {row['number']:.0f} "
            f"({row['arm']}), {of}"
        )
    return lines


def _range(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
