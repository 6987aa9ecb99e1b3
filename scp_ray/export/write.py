"""Write a model: into a folder beside, checked there, and only then put in place."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scp_ray import __version__
from scp_ray.errors import ConfigError, DataError, LedgerError
from scp_ray.export.card import card
from scp_ray.export.check import Agreement, batches, compare, masked_answers
from scp_ray.export.compact import Shrunk, compact_, counts_of, masked_channels
from scp_ray.export.cost import Latency, Size, latency, size_of
from scp_ray.export.formats import format_named
from scp_ray.export.model import Classifier, classifier_of
from scp_ray.export.rebuild import CONFIG, FORMAT, architecture_of, build
from scp_ray.export.source import Chosen, State
from scp_ray.ledger.evidence import primary
from scp_ray.maths.masks import load_masked_state_
from scp_ray.methods.base import group_count
from scp_ray.parts import FairnessData, Learner

CARD = "README.md"


@dataclass(frozen=True)
class Exported:
    """What was written, and what it costs beside the masked model."""

    folder: Path
    kind: str
    file: str
    bytes: int
    agreement: Agreement
    before: Size
    after: Size
    latency: Latency
    layers: tuple[Shrunk, ...]  # with masked channels
    compact: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"folder": str(self.folder)}


def masked_learner(chosen: Chosen, state: State, data: FairnessData) -> Learner:
    """The trial's learner with its weights and masks, in eval mode on the CPU."""
    learner = build(architecture_of(chosen.config, data.num_classes, group_count(data)))
    load_masked_state_(learner, state)
    return learner.eval()


def load_data(chosen: Chosen, root: str | None = None) -> FairnessData:
    """The trial's data set; ``root``: where it lies on this machine. Raises DataError where it is not there."""
    config = dict(chosen.arm["config"])
    if root is not None:
        config["dataset"] = config["dataset"] | {"root": root}
    dataset = type(chosen.config).from_dict(config | {"seed": chosen.seed}).dataset
    try:
        dataset.build()
        return dataset.load()
    except DataError as error:
        raise DataError(
            f"{error}\nAn export is checked on validation images before it is written, so the data set has to be on "
            "this machine: name its folder by --root."
        ) from error


def write_export(
    chosen: Chosen,
    state: State,
    data: FairnessData,
    kind: str,
    folder: Path,
    *,
    compact: bool,
    recomputed: bool = False,
) -> Exported:
    """Export a trial's model, with its card, to ``folder``.

    Raises ConfigError where a package is missing or the folder holds something else, LedgerError where the model does
    not answer as the masked one does: then nothing is written.
    """
    form = format_named(kind)
    _check_free(folder)
    learner = masked_learner(chosen, state, data)
    masked, agree = masked_answers(learner, data, chosen.predictions)
    full = classifier_of(learner, chosen.config.dataset.image_size)
    before = counts_of(full.learner)
    given = next(iter(batches(data)))
    example = full.inputs(given.image[:2], given.group[:2])
    one = full.inputs(given.image[:1], given.group[:1])
    model = classifier_of(learner, chosen.config.dataset.image_size) if compact else full
    layers = compact_(model, learner.layers, example) if compact else _masked_layers(full, learner)
    counts = {name: now for name, now in counts_of(model.learner).items() if now != before[name]}
    content = _config(chosen, data, model, kind, form.file, counts)

    def fill(place: Path) -> Exported:
        form.write(model, place / form.file, example)
        (place / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        call = form.read(place / form.file, content)
        agreement = compare(call, model.needs_group, data, masked, agree, f"{kind}{' --compact' * compact}")
        sizes = size_of(full, one), size_of(model, one)
        size = (place / form.file).stat().st_size
        timed = latency(full, call, one)
        made = Exported(folder, kind, form.file, size, agreement, *sizes, timed, tuple(layers), compact)
        text = card(chosen, data, content, made.as_dict(), recomputed=recomputed, runs_on=form.runs_on)
        (place / CARD).write_text(text, encoding="utf-8")
        return made

    return _in_place(folder, fill)


def _masked_layers(full: Classifier, learner: Learner) -> list[Shrunk]:
    network, found = full.learner.network, []
    for layer in learner.layers:
        masked = int(masked_channels(network, layer).sum())
        if masked:
            found.append(Shrunk(layer.name, layer.channels, masked, 0, "exported as they are; --compact was not asked"))
    return found


def _config(
    chosen: Chosen, data: FairnessData, model: Classifier, kind: str, file: str, counts: dict[str, dict[str, int]]
) -> dict[str, Any]:
    size = chosen.config.dataset.image_size
    inputs = [{"name": "image", "shape": ["N", 3, size, size], "type": "float32", "values": "RGB in [0, 1]"}]
    if model.needs_group:
        codes = f"code of {data.attribute_names[0]}, 0 to {group_count(data) - 1}"
        inputs.append({"name": "group", "shape": ["N"], "type": "int64", "values": codes})
    return {
        "format": FORMAT,
        "made_by": f"scp_ray {__version__}",
        "kind": kind,
        "file": file,
        "trial_id": chosen.trial_id,
        "round": chosen.round,
        "seed": chosen.seed,
        "inputs": inputs,
        "output": {"name": "logits", "shape": ["N", data.num_classes], "prediction": "argmax"},
        "classes": list(data.class_names),
        "architecture": architecture_of(chosen.config, data.num_classes, group_count(data)),
        "constants": model.constants,
        "channels": counts,  # of the layers that are smaller than the architecture's
    }


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file. Name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG).is_file():
        raise ConfigError(f"--out {folder} holds something that is no export. Name an empty folder or a new one.")


def _in_place(folder: Path, fill: Callable[[Path], Exported]) -> Exported:
    """``folder`` as ``fill`` leaves a folder beside it; an earlier export there stays until then."""
    mark = uuid.uuid4().hex[:8]
    beside, old = (folder.with_name(f".{folder.name}.{kind}.{mark}") for kind in ("new", "old"))
    try:
        beside.mkdir(parents=True)
        made = fill(beside)
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise LedgerError(
            f"cannot write {folder}: {error}. Free space or choose another --out, then try again."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return made


def classifier_from(chosen: Chosen, state: State) -> Classifier:
    """The trial's model as it answers, rebuilt without its data set; unchecked against any image."""
    rows = chosen.predictions
    groups = int(rows[primary(rows)].max()) + 1
    learner = build(architecture_of(chosen.config, int(chosen.row["num_classes"]), groups))
    load_masked_state_(learner, state)
    return classifier_of(learner, chosen.config.dataset.image_size)
