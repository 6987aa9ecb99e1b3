"""The rows of docs/performance.md: what is measured, against what, and what counts as reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table, made from the JSON line that tells ``what``."""

    what: str
    text: str
    against: str
    goal: str
    number: Callable[[Line], str]
    reached: Callable[[Line], bool]
    module: str  # whose main tells it
    gpu: bool = False


def at_least(key: str, goal: float, unit: str = "x") -> dict[str, Any]:
    """A row whose number is to be large."""
    return {
        "goal": f"at least {goal:g}{unit}",
        "number": lambda line: f"{line[key]:.3g}{unit}",
        "reached": lambda line: line[key] >= goal,
    }


def at_most(key: str, goal: float, unit: str = "x") -> dict[str, Any]:
    """A row whose number is to be small."""
    digits = ".3f" if unit == "x" else ".2f"
    return {
        "goal": f"at most {goal:g}{unit}",
        "number": lambda line: f"{line[key]:{digits}}{unit}",
        "reached": lambda line: line[key] <= goal,
    }


def _snnl() -> list[Row]:
    rows = []
    for side, goal in ((8, 4), (14, 2.5)):
        for name, text in (("eq1", "Eq. 1"), ("cosine", "Eq. 1, cosine"), ("released", "released form")):
            where = f"`snnl_scores`, {text}, 128 x 512 channels x {side} x {side}"
            rows.append(
                Row(f"snnl_{name}_{side}", where, "a loop over channels", **at_least("ratio", goal), module="snnl")
            )
            limit = "its matrix products and exponentials alone"
            rows.append(Row(f"snnl_{name}_{side}", where, limit, **at_most("over_limit", 1.5), module="snnl"))
    return rows


def _grid_reached(line: Line) -> bool:
    return bool(line["ratio"] <= 1.15 and line["bases"] == 2 and line["first_scores"] == line["base_layers"])


def _grid(line: Line) -> str:
    return f"{line['ratio']:.3f}x; {line['bases']} bases; {line['first_scores']} of {line['base_layers']}"


CPU = [
    *_snnl(),
    Row("scoring_pass_8", "a scoring pass, VGG-11's last convolution", "forward up to the layer alone",
        **at_most("ratio", 1.1), module="scoring_pass"),
    Row("scoring_pass_4", "the same, its fourth convolution", "forward up to the layer alone",
        **at_most("ratio", 1.1), module="scoring_pass"),
    Row("training, ResNet-18", "a fine-tuning epoch, ResNet-18 at 128 px", "the same steps on one resident batch",
        **at_most("over_resident", 1.05), module="data_training"),
    Row("evaluation", "evaluation and all metrics, 5,000 images x 114 classes, tiny", "forward alone",
        **at_most("ratio", 1.05), module="evaluation"),
    Row("grid", "5 pr_c x 8 layers x 2 seeds, tiny: time; base models; first scores per base model and layer",
        "its fits alone", "at most 1.15x; 2; once each", _grid, _grid_reached, "grid"),
    Row("trial_memory", "peak memory of a trial, less its decoded images", "a plain loop of the same model",
        **at_most("ratio", 1.15), module="trial_memory"),
    Row("start_import", "`import scp_ray`", "", **at_most("import_s", 0.2, " s"), module="starts"),
    Row("start_ls", "`scp-ray ls`", "", **at_most("ls_s", 0.5, " s"), module="starts"),
    Row("start_load", "every frame of a sweep of 1,000 trials", "", **at_most("load_s", 2, " s"), module="starts"),
]  # fmt: skip

GPU = [
    *(
        Row(f"snnl_{name}_{side}", f"`snnl_scores`, {text}, 128 x 512 channels x {side} x {side}",
            "a loop over channels", **at_least("ratio", 50), module="snnl", gpu=True)
        for name, text in (("eq1", "Eq. 1"), ("cosine", "Eq. 1, cosine")) for side in (8, 14)
    ),
    Row("training, ResNet-18", "a fine-tuning epoch, ResNet-18 at 128 px, bf16", "the same steps on one resident batch",
        **at_most("over_resident", 1.1), module="data_training", gpu=True),
    *(
        Row(f"gpu_steps_{name}", f"training steps, {text} at 128 px: bf16, channels_last, compiled",
            "plain fp32 eager", **at_least("ratio", 3), module="gpu_steps", gpu=True)
        for name, text in (("vgg11", "VGG-11"), ("resnet18", "ResNet-18"))
    ),
    Row("gpu_steps_vgg11", "the same, VGG-11, batch 256", "the card's measured matrix rate",
        **at_least("share_of_matrix_rate", 0.4, ""), module="gpu_steps", gpu=True),
    Row("precision", "F1 after training in bf16, ResNet-18 at 128 px, 5 seeds", "in float32, seed by seed",
        goal="an interval that holds 0", number=lambda line: f"{line['difference']:+.4f} ± {line['half']:.4f}",
        reached=lambda line: abs(line["difference"]) <= line["half"], module="precision", gpu=True),
    Row("gpu_pipeline", "our pipeline feeding VGG-11", "JPEG by PIL, per-image transforms, 2 workers",
        **at_least("ratio", 5), module="gpu_pipeline", gpu=True),
    Row("gpu_packing", "small trials on one GPU, 0.25 each", "one after another",
        **at_least("ratio", 1.8), module="gpu_packing", gpu=True),
]  # fmt: skip

GROWTH = ["growth --kinds scoring,ledger --docs docs", "growth --kinds report --most 300 --docs docs"]
EXPECTED = {
    ("samples", "CPU seconds"): "1", ("samples", "MB"): "0 to 1",
    ("channels", "CPU seconds"): "1", ("channels", "MB"): "at most 1",
    ("batch", "CPU seconds"): "2", ("batch", "MB"): "at most 2",
    ("trials", "CPU seconds"): "1", ("trials", "MB on disk"): "1",
}  # fmt: skip
