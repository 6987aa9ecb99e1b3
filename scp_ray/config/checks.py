"""What is wrong with a trial beyond its single fields: tables, weights, layer, and what does not go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from scp_ray.backbones.base import Backbone, backbones
from scp_ray.backbones.layers import find_layer
from scp_ray.config.parse import Faults, read_plugin
from scp_ray.config.trial import TrialConfig, is_select, read_method, read_pick
from scp_ray.criteria.base import Criterion, criteria
from scp_ray.data.base import DataSet, datasets
from scp_ray.errors import ConfigError, ScpError
from scp_ray.loop.picking import Pick
from scp_ray.loop.stopping import check_select
from scp_ray.methods.base import Method, all_needs
from scp_ray.parts import Network, PrunableLayer


@dataclasses.dataclass(frozen=True)
class Parts:
    """The fields of a trial that could be read, None in place of the others: each check needs a few of them."""

    dataset: DataSet | None
    backbone: Backbone | None
    method: Method | None
    criterion: Criterion | None
    pick: Pick | None
    layer: int | str | None
    pr_c: float | None
    rounds: int | None
    select: str | None
    image_size: int

    @classmethod
    def of(cls, config: TrialConfig) -> Parts:
        """All of a trial."""
        names = [field.name for field in dataclasses.fields(cls) if field.name != "image_size"]
        return cls(**{name: getattr(config, name) for name in names}, image_size=config.dataset.image_size)

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Parts:
        """What can be read of a trial as written; its faults are told elsewhere."""
        data_set = read_plugin(datasets, raw.get("dataset"), "", [])
        layer, pr_c, select = raw.get("layer", TrialConfig.layer), raw.get("pr_c"), raw.get("select")
        rounds = raw.get("rounds", TrialConfig.rounds)
        return cls(
            dataset=data_set,
            backbone=read_plugin(backbones, raw.get("backbone"), "", []),
            method=read_method(raw.get("method", "vanilla"), "", []),
            criterion=read_plugin(criteria, raw.get("criterion", "snnl"), "", []),
            pick=read_pick(raw.get("pick", {}), "", []),
            layer=layer if isinstance(layer, int | str) and not isinstance(layer, bool) else None,
            pr_c=pr_c if isinstance(pr_c, int | float) and 0 < pr_c < 1 else None,
            rounds=rounds if isinstance(rounds, int) and not isinstance(rounds, bool) else None,
            select=select if isinstance(select, str) and is_select(select) else None,
            image_size=_image_size(raw.get("dataset")) if data_set is None else data_set.image_size,
        )


def problems(parts: Parts) -> Iterator[tuple[str, ScpError]]:
    """Every one that the parts have by themselves and together, with the field it is of: in the order of the fields."""
    network, layer = None, None
    if (data_set := parts.dataset) is not None:
        yield from _raised("dataset", lambda: _check_tables(data_set))
    if (backbone := parts.backbone) is not None:
        yield from _raised("backbone", backbone.weights_digest)
        try:
            network = outline(backbone, parts.image_size)
        except ScpError as error:
            yield "backbone", error
    if parts.method is not None and backbone is not None and data_set is not None and network is not None:
        for method in (*all_needs(parts.method), parts.method):
            yield from _raised("method", lambda method=method: _check_method(method, backbone, data_set))  # type: ignore[misc]
    if (criterion := parts.criterion) is not None and (pick := parts.pick) is not None:
        names = pick.attributes if data_set is None else data_set.attribute_names
        yield from _raised("pick", lambda: pick.check(criterion, names))
    if network is not None and parts.layer is not None:
        try:
            layer = find_layer(network.layers, parts.layer)
        except ScpError as error:
            yield "layer", error
    if criterion is not None and layer is not None and parts.rounds is not None:
        yield from _raised("pr_c", lambda: _check_rounds(criterion, layer, parts.pr_c, parts.rounds or 0))
    if parts.select is not None and parts.rounds is not None:
        yield from _raised("select", lambda: check_select(parts.select or "", parts.rounds or 0))


def faults_of(parts: Parts, path: str) -> Faults:
    """``problems`` as sentences, each with the path of its field."""
    found = []
    for field, error in problems(parts):
        part = getattr(parts, field)
        options = {each.name for each in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else set()
        for fault in error.faults if isinstance(error, ConfigError) else [str(error)]:
            head = fault.partition(":")[0]
            if head.partition(".")[0] == field:
                found.append(f"{path}.{fault}")
            else:
                found.append(f"{path}.{field}.{fault}" if head in options else f"{path}.{field}: {fault}")
    return found


@lru_cache
def outline(backbone: Backbone, image_size: int) -> Network:
    """The backbone's layers, without weights; they do not depend on the number of classes."""
    return backbone.outline(2, image_size=image_size)


def _raised(field: str, check: Callable[[], object]) -> Iterator[tuple[str, ScpError]]:
    try:
        check()
    except ScpError as error:
        yield field, error


@lru_cache
def _check_tables(data_set: DataSet) -> None:
    """Raises DataError as often as it is asked; tables that were found right are read once a process."""
    data_set.rows()


def _check_method(method: Method, backbone: Backbone, data_set: DataSet) -> None:
    """Raises ConfigError as often as it is asked; what was found right is not asked again for each arm."""
    try:
        _check_method_once(method, backbone, data_set)
    except TypeError:  # a plug-in whose options cannot be hashed
        _check_method_once.__wrapped__(method, backbone, data_set)


@lru_cache
def _check_method_once(method: Method, backbone: Backbone, data_set: DataSet) -> None:
    network = outline(backbone, data_set.image_size)
    method.check(network, data_set.plugin_name, data_set.privileged_code, data_set.image_size)


def _check_rounds(criterion: Criterion, layer: PrunableLayer, pr_c: float | None, rounds: int) -> None:
    k = criterion.count(pr_c, layer.channels)
    if k * rounds >= layer.channels:
        raise ConfigError(
            f"pr_c: {pr_c} prunes {k} of {layer.channels} channels of layer {layer.name} a round, so "
            f"{rounds} rounds would leave none. Allowed are at most {(layer.channels - 1) // k} rounds."
        )


def _image_size(raw: Any) -> int:
    """As written for a data set that cannot be read: the layers do not depend on it, if only it is large enough."""
    size = raw.get("image_size") if isinstance(raw, Mapping) else None
    return size if isinstance(size, int) and size >= DataSet.image_size else DataSet.image_size
