"""The answer in plain words: what is best, by how much, whether it is real, what it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.report.page.arms import ranked
from scp_ray.report.page.caveats import caveats
from scp_ray.report.page.cost import Cost, duration
from scp_ray.report.page.progress import Progress
from scp_ray.report.page.reality import Reality, reality_of
from scp_ray.report.search_result import SearchResult
from scp_ray.report.yardstick import Yardstick

Row = dict[str, Any]


@dataclass(frozen=True)
class KeyNumber:
    """One of the large numbers under the headline."""

    title: str
    value: str
    note: str


@dataclass(frozen=True)
class Paragraph:
    """A question, the words that answer it, and the command that says more."""

    title: str
    words: str
    command: str = ""


@dataclass(frozen=True)
class Answer:
    """What stands at the top of the page."""

    headline: str
    best: str = ""  # the arm that is spoken of; empty where there is none
    numbers: list[KeyNumber] = field(default_factory=list)
    read: str = ""  # of which images, seeds and rounds the numbers are
    paragraphs: list[Paragraph] = field(default_factory=list)
    reality: Reality | None = None


def answer_of(
    sweep: Sweep,
    table: pd.DataFrame,
    yardstick: Yardstick,
    result: SearchResult | None,
    progress: Progress,
    cost: Cost | None,
) -> Answer:
    """From ``arm_rows``; compares the best arm with the models before pruning where the sweep is small enough."""
    whole = ranked(table[table["whole"] & table["feasible"]], yardstick)
    if not len(whole):
        return _nothing_yet(table, cost)
    best: Row = {str(key): value for key, value in whole.iloc[0].items()}
    real = reality_of(sweep, best, yardstick)
    paragraphs = [
        Paragraph("Is it real?", real.words, real.command),
        Paragraph("At what cost?", _cost_words(best, cost)),
        Paragraph("Among how many?", _choice(table, result)),
        *(Paragraph(*said) for said in caveats(sweep, best, whole, yardstick)),
    ]
    return Answer(
        headline=_headline(best, yardstick, progress),
        best=str(best["arm"]),
        numbers=_numbers(best, yardstick),
        read=_read(sweep, best),
        paragraphs=[each for each in paragraphs if each.words],
        reality=real,
    )


def _nothing_yet(table: pd.DataFrame, cost: Cost | None) -> Answer:
    whole = table["whole"].any() if len(table) else False
    why = "no arm that is done keeps every constraint" if whole else "no arm has all of its seeds done"
    return Answer(f"No answer yet: {why}", paragraphs=[Paragraph("At what cost?", f"{cost.words}.")] if cost else [])


def _headline(best: Row, yardstick: Yardstick, progress: Progress) -> str:
    fate = best[yardstick.column]
    if fate != fate:
        return f"No arm has a defined {yardstick.title}: the gap it divides by is 0. Highest F1: {best['arm']}"
    if fate <= 0:
        start = "vanilla model" if yardstick.baseline == "vanilla" else "model before pruning"
        return f"No arm beats the {start} by {yardstick.title}; the closest is {best['arm']}"
    return f"Best trade-off{'' if progress.finished else ' so far'}: {best['arm']}"


def _numbers(best: Row, yardstick: Yardstick) -> list[KeyNumber]:
    gap, title = yardstick.gap, yardstick.gap_title
    found = [
        KeyNumber(name, spread(best, column), _against(best, column, vanilla=yardstick.baseline == "vanilla"))
        for name, column in (("F1", "f1"), (title, gap))
    ]
    floor = best[f"{gap}_floor_mean"]
    if floor == floor:
        note = f"{title} less its noise floor of {floor:.4f} (95 % of it up to {best[f'{gap}_floor_high']:.4f})"
        found.append(KeyNumber(f"{title} excess", f"{best[gap] - floor:+.4f}", note))
    against = "the vanilla model" if yardstick.baseline == "vanilla" else "its own round 0"
    note = f"against {against}, which has 0; higher is better"
    found.append(KeyNumber(f"FATE of {title}", spread(best, yardstick.column, sign="+"), note))
    left = best.get("channels_left", float("nan"))
    if left == left:
        found.append(KeyNumber("Channels left", f"{left:.4g} of {best['channels']:.4g}", "in the layer that is pruned"))
    return found


def spread(row: Row, name: str, *, sign: str = "") -> str:
    """ "0.8516 ± 0.0123", without the deviation where there is one seed; "undefined" of NaN."""
    if row[name] != row[name]:
        return "undefined"
    deviation = row[f"{name}_std"]
    return f"{row[name]:{sign}.4f}" + (f" ± {deviation:.4f}" if deviation == deviation else "")


def _against(row: Row, name: str, *, vanilla: bool) -> str:
    before, plain = row[f"before_{name}"], row[f"vanilla_{name}"]
    words = f"{before:.4f} before pruning ({row[name] - before:+.4f})"
    return words + (f"; vanilla {plain:.4f} ({row[name] - plain:+.4f})" if vanilla and plain == plain else "")


def _read(sweep: Sweep, best: Row) -> str:
    trials = sweep.trials[sweep.trials["arm"] == best["arm"]]
    own = sweep.rounds[sweep.rounds["trial_id"].isin(trials["trial_id"])]
    images = ", ".join(f"{int(n):,}" for n in sorted(own["val_n"].unique()))
    rule = next(arm["config"]["select"] for arm in sweep.definition["arms"] if arm["label"] == best["arm"])
    seeds = ", ".join(str(seed) for seed in trials["seed"])
    means = "mean ± standard deviation over seeds" if len(trials) > 1 else "one seed has no standard deviation"
    return (
        f"Validation split, n = {images} images; seed{'s' * (len(trials) > 1)} {seeds}, read at "
        f"round{'s' * (',' in best['rounds'])} {best['rounds']} (selection rule: {rule}); {means}."
    )


def _cost_words(best: Row, cost: Cost | None) -> str:
    seconds = best.get("seconds", float("nan"))
    own = f"Pruning and fine-tuning took {duration(seconds)} a trial in this arm." if seconds == seconds else ""
    return " ".join(filter(None, [own, f"The whole sweep: {cost.words}." if cost else ""]))


def _choice(table: pd.DataFrame, result: SearchResult | None) -> str:
    tried = len(table) if result is None else result.tried
    if tried == 1:
        return "It is the only arm that is done." if len(table) > 1 else "It is the only arm."
    words = f"It was chosen as the best of {tried:,} arms by the numbers that are shown here, which flatters them."
    if result is None or len(result.objectives) < 2:
        return words
    titles = " against ".join(part.title for part in result.objectives)
    near = int((result.configurations["near_front"] & ~result.configurations["front"]).sum())
    words += f" {len(result.front):,} of {len(result.configurations):,} stand on the front of {titles}"
    words += f"; {near:,} more cannot be told from it within the intervals." if near else "."
    knee = result.configurations.loc[result.configurations["knee"], "arm"]
    words += f" Its knee: {knee.iloc[0]}." if len(knee) else ""
    for part in result.objectives:
        rows = result.best[(result.best["objective"] == part.metric) & (result.best["configurations"] > 0)]
        if len(rows):
            most = "Highest" if part.direction == "max" else "Lowest"
            words += f" {most} {part.title}: {rows.iloc[-1]['value']:.4f} ({rows.iloc[-1]['arm']})."
    return words
