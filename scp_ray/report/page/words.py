"""Counts as words, and what every number's reader has to know."""

from __future__ import annotations

from scp_ray.ledger import Sweep


def counted(count: float, name: str) -> str:
    """ "1 seed", "1,000 trials"."""
    return f"{int(count):,} {name}{'' if int(count) == 1 else 's'}"


def images_of(sweep: Sweep) -> str:
    """ "n = 246": how many validation images; of several data sets each one's."""
    return "n = " + ", ".join(f"{int(n):,}" for n in sorted(sweep.rounds["val_n"].unique()))


def seeds_of(sweep: Sweep) -> str:
    """ "0, 1, 2"."""
    return ", ".join(str(seed) for seed in sorted(set(sweep.trials["seed"])))


def rules_of(sweep: Sweep) -> str:
    """The selection rules: "best_val_fate"."""
    return ", ".join(sorted({arm["config"]["select"] for arm in sweep.definition["arms"]}))
