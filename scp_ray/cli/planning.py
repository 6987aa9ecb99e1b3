"""What ``scp-ray sweep --dry-run`` says of cost and power, and the limit that ``--max-gpu-hours`` sets."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scp_ray.cli.output import print_json
from scp_ray.errors import ConfigError
from scp_ray.terminal import duration

if TYPE_CHECKING:
    from scp_ray.config import Arm, SweepConfig
    from scp_ray.ledger import Ledger
    from scp_ray.tune.cost import Range
    from scp_ray.tune.forecast import Forecast

SEED_SD = 0.01  # of Eodd over seeds, where no earlier sweep tells


@dataclass(frozen=True)
class Power:
    """What differences the design finds on one data set's test table."""

    data: str
    detectable: Any  # maths.power.Detectable
    seed_sd: float
    source: str
    advice: list[str] = field(default_factory=list)


def tell_forecast(options: argparse.Namespace, config: SweepConfig, ledger: Ledger, summary: Mapping[str, Any]) -> None:
    """Say what the sweep takes and what it can show; with --json also ``summary`` and that as one object.

    Raises ConfigError where it may take more GPU-hours than were allowed.
    """
    found = foresee(options, config, ledger)
    powers = power_of(config, found)
    tell(found, powers)
    if options.json:
        print_json({**summary, **as_plain(found, powers)})
    check_limit(found, options.max_gpu_hours)


def foresee(options: argparse.Namespace, config: SweepConfig, ledger: Ledger) -> Forecast:
    """Cost and slots of what the ledger lacks."""
    from scp_ray.tune.forecast import forecast
    from scp_ray.tune.outlook import outlook

    return forecast(config, outlook(config, ledger, retry_failed=options.retry_failed), ledger.root, options.address)


def check_limit(found: Forecast, max_gpu_hours: float | None) -> None:
    """Raises ConfigError where the plan may take more GPU-hours than were allowed."""
    hours = found.cost.gpu_hours
    if max_gpu_hours is not None and hours.high > max_gpu_hours:
        raise ConfigError(
            f"--max-gpu-hours: this plan is estimated at {_hours(hours)} GPU-hours, and {max_gpu_hours:g} are allowed; "
            f"nothing was started ({'; '.join(found.sources)}). Plan fewer arms, seeds or epochs, or allow more."
        )


def power_of(config: SweepConfig, found: Forecast) -> list[Power]:
    """The smallest differences that the seeds find, for each data set of the arms.

    Each arm, or each configuration that a search tries, is compared with the models before pruning; arms that come to
    the same are one comparison.
    """
    from scp_ray.maths.advice import advice
    from scp_ray.maths.power import detectable_difference

    told = []
    arms = config.resolved_arms()
    for data_set in dict.fromkeys(arm.trials[0].config.dataset for arm in arms):
        own = [arm for arm in arms if arm.trials[0].config.dataset == data_set]
        rows = data_set.rows()
        test = rows[rows["split"] == "test"]
        group = test[data_set.attribute_names[0]]
        if sorted(set(group)) != [0, 1]:
            print(f"{data_set.plugin_name}: power is known for two groups only.", file=sys.stderr)
            continue
        seen = found.history.seed_sd(own[0].trials[0].config)
        sd, source = (SEED_SD, "assumed: no earlier sweep tells")
        if seen is not None:
            sd, source = seen[0], f"from earlier sweeps, {seen[1]} degrees of freedom"
        table: dict[str, Any] = {"label": test["label"].to_numpy(), "group": group.to_numpy()}
        table["unit"] = test["unit"].to_numpy()
        count = config.search.trials if config.search else different(own)
        plan: dict[str, Any] = {"seeds": len(config.seeds), "seed_sd": sd, "arms": count}
        detectable = detectable_difference(num_classes=len(data_set.class_names), **table, **plan)
        told.append(Power(data_set.plugin_name, detectable, sd, source, advice(detectable, **table)))
    return told


def different(arms: Sequence[Arm]) -> int:
    """How many comparisons with the baseline they make: labels of the same trials, read by the same rules, make one."""
    return len({(frozenset(trial.trial_id for trial in arm.trials), *_read_at(arm)) for arm in arms})


def _read_at(arm: Arm) -> tuple[Any, ...]:
    """The rules that choose the round at which an arm is read; no trial's id knows them."""
    config = arm.trials[0].config
    stop = config.stop if config.select == "last" else config.stop.gap
    return config.rounds, config.select, stop


def tell(found: Forecast, powers: Sequence[Power]) -> None:
    """On stderr, as the plan is."""
    cost, disk = found.cost, found.disk
    at_a_time = f"{_span(cost.wall_s)} with {found.slots.trials} trials at a time on {found.where}"
    if found.refusal:
        print(f"This plan cannot run on {found.where} (exit code 3): {found.refusal}", file=sys.stderr)
        at_a_time = f"none, since no trial fits on {found.where}"
    for line in (
        f"GPU-hours: {_hours(cost.gpu_hours)}; CPU-hours: {_hours(cost.cpu_hours)}; wall time: {at_a_time}.",
        *(f"  {source}." for source in found.sources),
        f"disk: {_megabytes(disk.total)} MB (weights and state {_megabytes(disk.weights)}, predictions "
        f"{_megabytes(disk.predictions)}, decoded images {disk.store / 1e6:,.0f} on each node that lacks them).",
        *(line for power in powers for line in _power_lines(power)),
    ):
        print(line, file=sys.stderr)


def as_plain(found: Forecast, powers: Sequence[Power]) -> dict[str, Any]:
    """For --json."""
    disk = found.disk
    return {
        "estimate": {
            "gpu_hours": list(found.cost.gpu_hours),
            "cpu_hours": list(found.cost.cpu_hours),
            "wall_seconds": list(found.cost.wall_s),
            "trials_at_a_time": found.slots.trials,
            "where": found.where,
            "cannot_run": found.refusal or None,
            "sources": found.sources,
            "disk_bytes": {
                "weights": list(disk.weights),
                "predictions": list(disk.predictions),
                "images": disk.store,
                "total": list(disk.total),
            },
        },
        "detectable": [
            {
                "data": power.data,
                "eodd": list(power.detectable.eodd),
                "fate": list(power.detectable.fate),
                "f1": list(power.detectable.f1),
                "seed_sd": power.seed_sd,
                "seed_sd_source": power.source,
                "advice": power.advice,
            }
            for power in powers
        ],
    }


def _power_lines(power: Power) -> list[str]:
    eodd, fate = power.detectable.eodd, power.detectable.fate
    return [
        f"smallest difference found with 80 % power on {power.data}'s test table: Eodd {_two(eodd)}, FATE {_two(fate)} "
        f"(standard deviation of a difference over seeds {power.seed_sd:.3f}, {power.source}).",
        *(f"  {sentence}" for sentence in power.advice),
    ]


def _two(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _hours(hours: Range) -> str:
    return "0" if not hours.high else f"{hours.low:.2g} to {_known(hours.high)}"


def _known(number: float) -> str:
    return f"{number:.2g}" if math.isfinite(number) else "unknown"


def _span(seconds: Range) -> str:
    if not math.isfinite(seconds.high):
        return "unknown"
    return f"{duration(seconds.low)} to {duration(seconds.high)}"


def _megabytes(amount: Range) -> str:
    low, high = (f"{end / 1e6:,.0f}" for end in amount)
    return low if low == high else f"{low} to {high}"
