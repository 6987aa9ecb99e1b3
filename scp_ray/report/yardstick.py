"""By what arms are ranked: FATE of which gap, against which baseline."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from scp_ray.ledger import Sweep
from scp_ray.maths.gaps import GAPS

BASELINES = ("base", "vanilla")
GAP_TITLES = {"eodd": "Eodd", "eopp0": "Eopp0", "eopp1": "Eopp1"}


@dataclass(frozen=True)
class Yardstick:
    """FATE of which gap, against which baseline."""

    gap: str
    baseline: str  # base: the trial's own round 0; vanilla: the vanilla model of the same seed

    @property
    def column(self) -> str:
        """Of ``round_rows``."""
        return f"fate_{self.gap}_{self.baseline}"

    @property
    def gap_title(self) -> str:
        """ "Eodd"."""
        return GAP_TITLES[self.gap]

    @property
    def title(self) -> str:
        """ "FATE of Eodd", with its baseline where that is not the trial's own."""
        return f"FATE of {self.gap_title}" + (" against vanilla" if self.baseline == "vanilla" else "")


def yardstick_of(sweep: Sweep) -> Yardstick:
    """The gap of the stop rule, Eodd where arms differ in it.

    Where some trials start from other base models than vanilla ones, each one's own round 0 is another yardstick: then
    all are held against the vanilla model of their seed.
    """
    gaps = {arm["config"]["stop"]["gap"] for arm in sweep.definition["arms"]}
    gap = gaps.pop() if len(gaps) == 1 else "eodd"
    others = (sweep.trials["base_id"] != sweep.trials["vanilla_id"]).any()
    known = "vanilla" in baselines_of(sweep.rounds)
    return Yardstick(gap if gap in gaps_of(sweep.rounds) else "eodd", "vanilla" if others and known else "base")


def gaps_of(rounds: pd.DataFrame) -> list[str]:
    """The gaps that the rounds tell FATE of, Eodd first."""
    known = [gap for gap in GAPS if f"val_{gap}" in rounds and f"val_fate_{gap}_base" in rounds]
    return sorted(known, key=lambda gap: gap != "eodd")


def baselines_of(rounds: pd.DataFrame) -> list[str]:
    """What FATE is told against: ``base``, and ``vanilla`` where the rounds have it."""
    return [name for name in BASELINES if f"val_fate_eodd_{name}" in rounds]
