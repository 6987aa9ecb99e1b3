"""The model card, in the form that the Hugging Face hub reads: YAML first, then Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from scp_ray.export.numbers import cost_table, evidence_table, group_table, rates
from scp_ray.export.source import Chosen
from scp_ray.parts import SPLITS, FairnessData


def card(
    chosen: Chosen,
    data: FairnessData,
    content: Mapping[str, Any],
    made: Mapping[str, Any],
    *,
    recomputed: bool,
    runs_on: str,
) -> str:
    """README.md of an export.

    Args:
        content: config.json.
        made: what ``Exported`` says, as plain data.
        recomputed: whether the weights were made again from the base model.
        runs_on: what runs the file.
    """
    evidence = _evidence(chosen)
    front = yaml.safe_dump(_front(chosen, data, content, evidence), sort_keys=False, allow_unicode=True)
    parts = [
        *(_title(chosen, data), _use(content, made, runs_on), _data(chosen, data), _training(chosen, recomputed)),
        *(_numbers(chosen, data, evidence), _size(made, runs_on), _limits(chosen, content, made)),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(part.strip() for part in parts) + "\n"


def _evidence(chosen: Chosen) -> pd.DataFrame:
    """By metric; no rows where the ledger has none of this round."""
    known = chosen.sweep.evidence
    mine = (known["trial_id"] == chosen.trial_id) & (known["round"] == chosen.round) & (known["split"] == "val")
    return known[mine].set_index("metric")


def _front(chosen: Chosen, data: FairnessData, content: Mapping[str, Any], evidence: pd.DataFrame) -> dict[str, Any]:
    row = chosen.row
    named = [("f1", "macro F1, mean over groups"), ("eodd", "Eodd"), ("eopp0", "Eopp0"), ("eopp1", "Eopp1")]
    metrics = [
        {"type": name, "name": f"{title} (validation)", "value": round(float(row[f"val_{name}"]), 6), "verified": False}
        for name, title in named
        if not math.isnan(row[f"val_{name}"])
    ]
    result = {
        "task": {"type": "image-classification", "name": "skin-disease classification"},
        "dataset": {"type": data.name, "name": data.name, "split": "validation"},
        "metrics": metrics,
    }
    return {
        "license": "other",
        "license_name": "as-the-training-data",
        "library_name": "onnx" if content["kind"] == "onnx" else "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["scp_ray", "fairness", "pruning", "dermatology", chosen.row["backbone"], chosen.row["method"]],
        "metrics": [name for name, _ in named],
        "model-index": [{"name": _name(chosen), "results": [result]}],
    }


def _name(chosen: Chosen) -> str:
    return f"{chosen.sweep.definition['name']}-{chosen.trial_id}-round{chosen.round}"


def _title(chosen: Chosen, data: FairnessData) -> str:
    row = chosen.row
    return (
        f"# {_name(chosen)}\n\n"
        f"A network ({row['backbone']}) that names one of {data.num_classes} classes of {data.name}, trained by "
        f"{row['method']} and pruned for fairness between the groups of {data.attribute_names[0]} by SCP (sensitive "
        "channel pruning): "
        f"{_pruned(chosen)}."
    )


def _pruned(chosen: Chosen) -> str:
    row = chosen.row
    if chosen.round == 0:
        return "of its rounds validation selected round 0, the model before pruning"
    gone = chosen.config.criterion.plugin_name
    return (
        f"{chosen.round} rounds of channels chosen by {gone} in layer {row['layer']} ({row['layer_name']}), "
        f"{int(row['channels_left'])} of its channels left"
    )


def _use(content: Mapping[str, Any], made: Mapping[str, Any], runs_on: str) -> str:
    size = content["inputs"][0]["shape"][-1]
    second = "".join(f", and `{each['name']}` ({each['values']})" for each in content["inputs"][1:])
    image = f"torch.zeros(1, 3, {size}, {size})"
    group = ", torch.zeros(1, dtype=torch.int64)" * (len(content["inputs"]) - 1)
    if runs_on == "onnxruntime":
        given = f'"image": np.zeros((1, 3, {size}, {size}), np.float32)'
        given += ', "group": np.zeros(1, np.int64)' * (len(content["inputs"]) - 1)
        call = f'import numpy as np, onnxruntime\n\nmodel = onnxruntime.InferenceSession("{content["file"]}")\n'
        call += f"logits, = model.run(None, {{{given}}})"
    else:
        call = 'import torch\nfrom scp_ray.export import load_exported\n\nmodel = load_exported(".")\n'
        call += f"logits = model({image}{group})"
    return f"""## How it is used

```python
{call}
```

Input: RGB images, shorter side resized to {size} pixels (bilinear, antialiased) and centre cropped, turned upright by \
EXIF, divided by 255. There is no further normalisation: the network was trained without any{second}. Output: logits, \
whose largest names the class: {", ".join(content["classes"][:12])}{", ..." * (len(content["classes"]) > 12)}.
{_form(content)}

**Intended use.** Research on what pruning does to accuracy and to fairness between groups of patients. \
**Not intended:** diagnosis, triage or any other decision about a person. It is no medical device and was never tried \
in a clinic."""


def _form(content: Mapping[str, Any]) -> str:
    method, name = content["architecture"]["method"], content["architecture"]["method"]["name"]
    said = []
    if "threshold" in content["constants"]:
        said.append(
            "The network has several exits. Each image is answered by its first exit whose confidence reaches "
            f"{content['constants']['threshold']:g} (chosen on validation), and all exits are computed: the file saves "
            "no time by leaving early."
        )
    if name == "fair-adabn":
        said.append("Its norms are each group's own, so it needs the group of every image; -1, unknown, goes as 1.")
    if name == "domain-indep":
        said.append(f"It has a head per group; the logits are what they make together ({method['inference']}).")
    if name in ("adv-conf", "adv-ref"):
        said.append("The head that the adversary used in training is left out.")
    return "\n" + " ".join(said) if said else ""


def _data(chosen: Chosen, data: FairnessData) -> str:
    lines = [
        f"| split | images | {' | '.join(f'{data.attribute_names[0]} {code}' for code in (0, 1))} |",
        "|---" * 4 + "|",
    ]
    for split in SPLITS:
        group = data.splits[split].attributes[:, 0]
        lines.append(f"| {split} | {len(group)} | {int((group == 0).sum())} | {int((group == 1).sum())} |")
    records = chosen.sweep.definition.get("data", {})
    notes = [note for record in records.values() for note in record.get("notes", [])]
    privileged = data.privileged_code
    who = "nobody said which is privileged" if privileged is None else f"code {privileged} is called privileged"
    return "\n".join(
        ["## Data and groups", "", *lines, "", f"Groups are the codes of {data.attribute_names[0]}; {who}."]
        + [f"- {note}" for note in dict.fromkeys(notes)]
    )


def _training(chosen: Chosen, recomputed: bool) -> str:
    config, definition = chosen.config, chosen.sweep.definition
    versions = definition.get("versions", {})
    made = ", ".join(f"{name} {versions[name]}" for name in ("scp_ray", "torch", "numpy") if name in versions)
    again = " Its weights were made again from the base model, and answer as the ledger's." if recomputed else ""
    unfinished = "" if chosen.status == "done" else f" The trial is {chosen.status}: later rounds may be selected."
    return (
        f"## Training\n\nSweep {definition['name']}, arm {chosen.arm['label']}, seed {chosen.seed}, trial "
        f"{chosen.trial_id}, round {chosen.round} of {config.rounds}; base model: {config.train.epochs} epochs, each "
        f"round {config.fine_tune.epochs} more. {made}; commit {definition.get('commit')}.{again}{unfinished}"
    )


def _numbers(chosen: Chosen, data: FairnessData, evidence: pd.DataFrame) -> str:
    row, arms = chosen.row, chosen.sweep.definition["arms"]
    seeds = len(chosen.arm["trials"])
    fate = row.get("val_fate_eodd_base", float("nan"))
    other = "undefined (the base model's gap is 0)" if math.isnan(fate) else f"{fate:+.4f}"
    n = int(row["val_n"])
    return f"""## Numbers

All on **validation**, n = {n} images, one training (seed {chosen.seed}; the arm has {seeds}). The round was selected \
by {chosen.config.select} on the same images, out of {chosen.config.rounds + 1} rounds, and the sweep has {len(arms)} \
configuration{"s" * (len(arms) > 1)}: numbers of what was chosen for them are better than new images will show. Test \
numbers are not in this card.

{evidence_table(row, evidence)}

Floor: what gap a classifier of the same errors would show were it fair (groups permuted inside each class), mean and \
95 % band; p: of the observed gap against it. Intervals (95 %) are of the metric's expected value on this table of \
classes and groups; whether a gap is zero is for p to say, not for its interval.

FATE of Eodd against the trial's own unpruned model: {other}; F1 of that model {rates(chosen.row_of(0)["val_f1"])}, \
Eodd {rates(chosen.row_of(0)["val_eodd"])}. Whether arms differ is for `scp-ray compare` to say.

{group_table(row, data)}"""


def _size(made: Mapping[str, Any], runs_on: str) -> str:
    found = made["agreement"]
    said = [
        f"Checked before it was written on {found['images']} validation images: logits of the file, read back and run "
        f"by {runs_on}, differ from the masked model's by at most {found['largest']:.2g}; {found['predictions']} "
        f"predictions are the same. {found['ledger']} are those that the ledger holds of this round."
    ]
    said += list(_layers(made))
    return "## Size and speed\n\n" + cost_table(made, runs_on) + "\n\n" + "\n".join(said)


def _layers(made: Mapping[str, Any]) -> Iterator[str]:
    for layer in made["layers"]:
        what = f"removed {layer['removed']}" if layer["removed"] else f"none removed: {layer['reason']}"
        yield f"- layer {layer['layer']}: {layer['masked']} of {layer['channels']} channels are masked; {what}."
    if not made["layers"]:
        yield "- no channel is masked to nothing, so none could be removed."
    if made["after"]["nonzero"] < made["after"]["parameters"] and not made["layers"]:
        yield "- weights that are 0 (single ones that the method masked among them) stay in place as zeros."


def _limits(chosen: Chosen, content: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    return f"""## Limits

- One training. Another seed gives another model; differences between arms need several (`scp-ray compare`).
- Fair, here, means a small gap in the rates of two groups on these images. It says nothing of other attributes, of \
images of other cameras, clinics or skin tones, or of what is done with an answer.
- A gap that lies within its noise floor is no evidence of fairness, nor of unfairness: the table is too small to tell.
- The licence of the weights follows the licence of the training data; see there before you pass them on.
- Made by {content["made_by"]} ({content["kind"]}{", compact" * made["compact"]})."""
