"""One trial: everything that decides its numbers, and what selects among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from scp_ray.backbones.base import Backbone, backbones
from scp_ray.config.parse import Faults, Reader, Rule, read_fields, read_plugin, unknown_key
from scp_ray.criteria.base import Criterion, criteria
from scp_ray.data.base import DataSet, datasets
from scp_ray.errors import ConfigError
from scp_ray.loop.picking import Pick
from scp_ray.loop.stopping import StopRule, parse_select
from scp_ray.methods.base import Joined, Method, methods
from scp_ray.parts import TrainPlan
from scp_ray.registry import spec_of


def read_pick(data: Any, path: str, faults: Faults) -> Pick | None:
    """The rule alone, or a mapping of its options."""
    return read_fields(Pick, {"rule": data} if isinstance(data, str) else data, path, faults)


def read_method(data: Any, path: str, faults: Faults) -> Method | None:
    """A method by name or mapping, or two as a list: the second is put on the model that the first trained."""
    options = {"name": data} if isinstance(data, str) else data
    name = options.get("name") if isinstance(options, Mapping) else None
    if isinstance(name, str) and (name in methods.joined or {"first", "second"} <= {*options}):
        names, given = methods.joined.get(name, (None, None)), dict(options)
        data = [given.pop(key, default) for key, default in zip(("first", "second"), names, strict=True)]
        faults += [unknown_key(f"{path}.{key}", key, {"first": 0, "second": 0}) for key in given if key != "name"]
    if not isinstance(data, list):
        return read_plugin(methods, data, path, faults)
    if len(data) != 2:
        faults.append(f"{path}: got a list of {len(data)}; allowed are two methods, as in [me, fairprune].")
        return None
    before = len(faults)
    first, second = (_read_part(part, f"{path}[{index}]", faults) for index, part in enumerate(data))
    if len(faults) > before or first is None or second is None:
        return None
    try:
        return Joined(first, second)
    except ConfigError as error:
        faults += [f"{path}: {fault}" for fault in error.faults]
        return None


def _read_part(data: Any, path: str, faults: Faults) -> Method | None:
    name = data.get("name") if isinstance(data, Mapping) else data
    if isinstance(name, str) and name in methods.joined:
        faults.append(f"{path}: {name} is two methods already; a list joins two single ones.")
        return None
    return read_plugin(methods, data, path, faults)


_READERS: dict[str, Reader] = {
    "dataset": partial(read_plugin, datasets),
    "backbone": partial(read_plugin, backbones),
    "method": read_method,
    "pick": read_pick,
    "criterion": partial(read_plugin, criteria),
}


_NO_RATIO = "pr_c: missing; it is the share of channels pruned per round, a number > 0 and < 1."


def is_select(rule: str) -> bool:
    """Whether it names a rule."""
    try:
        parse_select(rule)
    except ConfigError:
        return False
    return True


@dataclass(frozen=True)
class TrialConfig:
    """Data, backbone, base method, criterion, pruning ratio, layer, plans and seed."""

    dataset: DataSet
    backbone: Backbone
    method: Method
    criterion: Criterion
    pick: Pick = field(default_factory=Pick)
    pr_c: Annotated[float, Gt(0), Lt(1)] | None = None  # share of the layer's original channels pruned per round
    layer: int | str = -1
    rounds: Annotated[int, Ge(0)] = 5
    train: TrainPlan = field(default_factory=TrainPlan)
    fine_tune: TrainPlan = field(default_factory=TrainPlan)
    stop: StopRule = field(default_factory=StopRule)
    select: Annotated[str, Rule(is_select, "'best_val_fate', 'last' or 'round:n', e.g. 'round:3'")] = "best_val_fate"
    mask: Literal["full", "released"] = "full"  # released: a pruned convolution keeps its bias
    seed: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        if self.pr_c is None and self.criterion.prunes:
            raise ConfigError(_NO_RATIO)
        if self.train.loss != "native":
            raise ConfigError(
                f"train.loss: got {self.train.loss!r}; a base model is trained by its method's own loss. "
                "Plain cross-entropy is method: vanilla, or fine_tune.loss: ce."
            )

    @classmethod
    def read(cls, data: Mapping[str, Any], path: str, faults: Faults) -> TrialConfig | None:
        """From plain data; faults are added to ``faults``, and then the result is None."""
        given = {"method": "vanilla", "criterion": "snnl"} | dict(data)
        criterion = read_plugin(criteria, given["criterion"], path, [])
        if criterion is not None and criterion.prunes and given.get("pr_c") is None:
            faults.append(f"{path}.{_NO_RATIO}")
        return read_fields(cls, given, path, faults, _READERS)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrialConfig:
        """From plain data. Raises ConfigError with all faults."""
        faults: Faults = []
        config = cls.read(data, "trial", faults)
        if config is None:
            raise ConfigError(list(dict.fromkeys(faults)))
        return config

    def as_dict(self) -> dict[str, Any]:
        """Plain data that ``from_dict`` reads back."""
        plain: dict[str, Any] = {key: spec_of(getattr(self, key)) for key in _READERS if key != "pick"}
        plain |= {"pr_c": self.pr_c, "layer": self.layer, "rounds": self.rounds}
        plain |= {key: asdict(getattr(self, key)) for key in ("pick", "train", "fine_tune", "stop")}
        return plain | {"select": self.select, "mask": self.mask, "seed": self.seed}
