"""Feature maps of a base model's most sensitive channels: the right ones, of the right images, or a reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import sem

from scp_ray.assembly import build_learner
from scp_ray.config import TrialConfig
from scp_ray.ledger import load_sweep
from scp_ray.parts import Split
from scp_ray.report.figures.drawn import NotDrawnError
from scp_ray.report.figures.sensitive_maps import sample_rows, sensitive_maps

CONFIG = {
    "dataset": {"name": "synthetic", "image_size": 32, "train": 16, "val": 48, "test": 16},
    **{"backbone": "tiny", "method": "vanilla", "criterion": "snnl", "pr_c": 0.1, "layer": 3, "rounds": 1},
}
LOWEST = (7, 30, 2, 11, 19, 23)  # of the 32 channels of the third convolution


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A sweep of one arm whose base model is untrained, with scores that are lowest in LOWEST."""
    root = tmp_path / "sweep"
    for kind in ("rounds", "channels", "bases/b0"):
        (root / kind).mkdir(parents=True)
    config = TrialConfig.from_dict(CONFIG | {"seed": 0})
    data = config.dataset.load()
    learner = build_learner(config, data, {})
    save_file(
        {name: value.contiguous() for name, value in learner.state_dict().items()}, root / "bases/b0/model.safetensors"
    )
    val = data.splits["val"]
    said = {
        "split": ["val"] * len(val),
        "id": list(val.id),
        "label": val.label.numpy(),
        "tone": val.attributes[:, 0].numpy(),
    }
    pq.write_table(pa.table(said | {"prediction": val.label.numpy()}), root / "bases/b0/predictions.parquet")
    rows = [
        {"trial_id": "t0", "base_id": "b0", "round": index, "seed": 0, "num_classes": 4, "val_n": 48, "val_f1": 0.5}
        | {"val_eodd": 0.2, "val_fate_eodd_base": 0.1 * index, "layer": 3, "layer_name": "6", "stop_reason": ""}
        | {"stopped": False}
        for index in (0, 1)
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / "rounds/t0.parquet")
    scores = [LOWEST.index(channel) / 10 if channel in LOWEST else 1.0 for channel in range(32)]
    columns = {"round": pa.array([1] * 32, pa.int32()), "channel": pa.array(range(32), pa.int32())}
    columns |= {"score": pa.array(scores, pa.float32()), "p": [float("nan")] * 32, "pruned": [False] * 32}
    pq.write_table(pa.table(columns | {"kept": [True] * 32}), root / "channels/t0.parquet")
    stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}
    trials = [{"seed": 0, "trial_id": "t0", "base_id": "b0", "vanilla_id": "b0"}]
    arm = {"label": "all", "settings": {}, "config": CONFIG | {"select": "round:1", "stop": stop}, "trials": trials}
    (root / "sweep.json").write_text(json.dumps({"format": 1, "name": "sweep", "arms": [arm], "data": {}}))
    return root


def test_maps_are_those_of_the_layer_for_the_drawn_images(ledger):
    drawn = sensitive_maps(load_sweep(ledger))
    assert drawn.data["channel"].tolist() == list(LOWEST)
    config = TrialConfig.from_dict(CONFIG | {"seed": 0})
    data = config.dataset.load()
    val, network = data.splits["val"], build_learner(config, data, {}).network.eval()
    group = val.attributes[:, 0]
    # tiny is a chain of conv, norm, ReLU: its third convolution is module 6
    with torch.no_grad():
        maps = network[:7](val.image.float() / 255)[:, list(LOWEST)]
    for code in (0, 1):
        means = maps[group == code][:32].mean(dim=(2, 3)).numpy()
        assert drawn.data[f"mean_{code}"].tolist() == pytest.approx(means.mean(axis=0).tolist(), abs=1e-5)
        assert drawn.data[f"error_{code}"].tolist() == pytest.approx(sem(means).tolist(), abs=1e-5)
    label, rows = sample_rows(val)
    pictures = [axes.images[0].get_array() for axes in drawn.figure.axes]
    shown = rows[0] + rows[1]
    assert len(pictures) == 4 * 7
    for at, row in enumerate(shown):
        assert (val.label[row], group[row]) == (label, at // 2)
        assert np.allclose(pictures[7 * at], val.image[row].permute(1, 2, 0) / 255)
        for place in range(6):
            assert np.allclose(pictures[7 * at + place + 1], maps[row, place], atol=1e-5)
    assert "n = 48 images; seed 0; selection rule: round:1" in drawn.caption
    assert "the 6 channels of layer 3 (module 6) with the lowest scores" in drawn.caption


def test_each_channel_has_one_scale_for_all_images(ledger):
    drawn = sensitive_maps(load_sweep(ledger))
    for place in range(1, 7):
        scales = {axes.images[0].get_clim() for axes in drawn.figure.axes[place::7]}
        assert len(scales) == 1


def test_the_class_with_enough_of_both_groups_is_shown():
    # class 0: five of group 0 and none of group 1; class 1: three and two; class 2: one and one
    label = torch.tensor([0] * 5 + [1] * 5 + [2] * 2)
    group = torch.tensor([0] * 5 + [0, 0, 0, 1, 1] + [0, 1])
    names = tuple(map(str, range(12)))
    split = Split(torch.zeros(12, 3, 8, 8, dtype=torch.uint8), label, group[:, None], names, names)
    assert sample_rows(split) == (1, {0: [5, 6], 1: [8, 9]})


def test_without_weights_or_with_other_images_there_is_a_reason(ledger):
    weights = ledger / "bases/b0/model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    with pytest.raises(NotDrawnError, match="the weights of base model b0 are gone"):
        sensitive_maps(load_sweep(ledger))
    weights.write_bytes(kept)
    path = ledger / "bases/b0/predictions.parquet"
    said = pq.read_table(path)
    pq.write_table(said.set_column(1, "id", pa.array(["x"] * len(said))), path)
    with pytest.raises(NotDrawnError, match="holds other images or labels"):
        sensitive_maps(load_sweep(ledger))


def test_images_that_are_not_decoded_here_are_a_reason(ledger, tmp_path):
    definition = json.loads((ledger / "sweep.json").read_text())
    elsewhere = {"name": "isic2019", "root": str(tmp_path / "elsewhere"), "image_size": 32}
    definition["arms"][0]["config"]["dataset"] = elsewhere
    (ledger / "sweep.json").write_text(json.dumps(definition))
    with pytest.raises(NotDrawnError, match=r"elsewhere"):
        sensitive_maps(load_sweep(ledger))
