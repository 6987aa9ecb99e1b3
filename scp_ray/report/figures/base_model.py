"""The base model that a trial started from, put together again with the images it was judged on."""

from __future__ import annotations

import torch

from scp_ray.activations import layer_output
from scp_ray.assembly import build_learner
from scp_ray.backbones.layers import find_layer
from scp_ray.config import TrialConfig
from scp_ray.config.identity import base_id, with_method
from scp_ray.errors import BackboneError, ScpError
from scp_ray.ledger import Sweep
from scp_ray.maths.masks import load_masked_state_
from scp_ray.methods.base import all_needs
from scp_ray.modes import evaluating
from scp_ray.parts import Batch, FairnessData, Learner, PrunableLayer, Split
from scp_ray.report.figures.drawn import NotDrawnError

AT_ONCE = 32  # images; the first layers' maps of more take a lot of memory


def config_of(sweep: Sweep, arm: str, seed: int) -> TrialConfig:
    """What a trial was told. Raises ConfigError where this version does not know a part of it."""
    entry = next(entry for entry in sweep.definition["arms"] if entry["label"] == arm)
    try:
        return TrialConfig.from_dict(entry["config"] | {"seed": seed})
    except ScpError as error:
        raise NotDrawnError(f"the configuration of {arm} cannot be read: {error}") from error


def load_data(sweep: Sweep, config: TrialConfig, base: str) -> FairnessData:
    """The trial's data set, decoded. Raises NotDrawnError where it is not ready on this machine, or another one."""
    try:
        missing = config.dataset.bytes_to_store()
    except ScpError as error:
        raise NotDrawnError(f"the data set is not here: {error}") from error
    if missing:
        raise NotDrawnError(
            f"the images of {config.dataset.plugin_name} are not decoded on this machine "
            f"({missing / 1e6:,.0f} MB to be stored); run scp-ray data build first."
        )
    data = config.dataset.load()
    said = sweep.base_predictions(base)
    known = said[said["split"] == "val"]
    val = data.splits["val"]
    if list(known["id"]) != list(val.id) or known["label"].tolist() != val.label.tolist():
        raise NotDrawnError("the data set here holds other images or labels than those that the sweep was judged on.")
    return data


def load_base(sweep: Sweep, config: TrialConfig, base: str, data: FairnessData) -> tuple[Learner, PrunableLayer]:
    """The trained base model on the CPU, and the layer that the trial prunes. Raises NotDrawnError."""
    if not (sweep.ledger.base_folder(base) / "model.safetensors").exists():
        raise NotDrawnError(f"the weights of base model {base} are gone.")
    needed = {m.plugin_name: sweep.ledger.base_state(base_id(with_method(config, m))) for m in all_needs(config.method)}
    learner = build_learner(config, data, needed)
    try:
        load_masked_state_(learner, sweep.ledger.base_state(base))
    except (RuntimeError, AttributeError) as error:
        raise BackboneError(f"the weights of base model {base} do not fit its configuration: {error}") from error
    return learner, find_layer(learner.layers, config.layer)


def batch_of(split: Split, rows: torch.Tensor) -> Batch:
    """Images of a split by their rows, as the model takes them."""
    return Batch(
        image=split.image[rows].float() / 255,
        label=split.label[rows],
        group=split.attributes[rows, 0],
        attributes=split.attributes[rows],
    )


def maps_of(learner: Learner, layer: PrunableLayer, batch: Batch) -> torch.Tensor:
    """(N, C, h, w): the layer's feature maps in eval mode, before norm and activation."""
    parts = range(0, len(batch.label), AT_ONCE)
    with evaluating(learner):
        slices = [Batch(*(part[at : at + AT_ONCE] for part in batch)) for at in parts]
        return torch.cat([layer_output(learner, layer, each) for each in slices])
