"""`scp-ray export` on a small sweep: what it writes answers as the ledger's predictions say, or is not there."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from trackers import make_ledger

from scp_ray.cli.main import main
from scp_ray.config import TrialConfig
from scp_ray.errors import DataError, LedgerError
from scp_ray.export import load_exported, write
from scp_ray.ledger import Ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Two arms of one seed, two rounds each; every selected model is kept."""
    return make_ledger(tmp_path_factory.mktemp("ledger") / "miniature")


@pytest.fixture
def ledger(made: Ledger, tmp_path: Path) -> Ledger:
    return Ledger(Path(shutil.copytree(made.root, tmp_path / "miniature")))


def pruned(ledger: Ledger) -> tuple[str, int]:
    """A trial whose selected round is not its base model, and that round."""
    for path in ledger.find("models/*/model.json"):
        content = json.loads(path.read_text())
        if content["round"] > 0:
            return content["trial_id"], content["round"]
    raise AssertionError("no trial of the miniature has a pruned round selected")


def export(ledger: Ledger, trial: str, *more: str) -> Path:
    out = ledger.root.parent / "out"
    assert main(["export", str(ledger.root), trial, "--out", str(out), *more]) == 0
    return out


def validation(ledger: Ledger, trial_id: str, index: int) -> tuple[torch.Tensor, pd.DataFrame]:
    """Images (N, 3, S, S) in [0, 1] and what the ledger holds of the model's answers to them."""
    arm = ledger.definition()["arms"][0]
    data = TrialConfig.from_dict(arm["config"] | {"seed": 0}).dataset.load()
    stored = pd.read_parquet(ledger.root / "predictions" / f"{trial_id}.parquet")
    stored = stored[(stored["split"] == "val") & (stored["round"] == index)]
    assert list(stored["id"]) == list(data.splits["val"].id)
    return data.splits["val"].image.float() / 255, stored


def agrees(logits: Any, stored: pd.DataFrame) -> None:
    """The class of every image, and the logits as far as the ledger's half precision goes."""
    found = np.asarray(logits)
    assert list(found.argmax(1)) == list(stored["prediction"])
    np.testing.assert_allclose(found, np.stack(list(stored["logits"])), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("more", [[], ["--compact"]])
def test_safetensors_are_loaded_again(ledger: Ledger, more: list[str]) -> None:
    trial_id, index = pruned(ledger)
    folder = export(ledger, trial_id[:6], *more)
    image, stored = validation(ledger, trial_id, index)
    with torch.no_grad():
        agrees(load_exported(folder)(image), stored)
    weights, content = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    channels = pd.read_parquet(ledger.root / "channels" / f"{trial_id}.parquet")
    left = int(channels[channels["round"] == index]["kept"].sum())
    assert len(weights["network.21.weight"]) == (left if more else 64)
    assert content["channels"] == (
        {
            "network.21": {"out_channels": left, "in_channels": 64, "groups": 1},
            "network.22": {"num_features": left},
            "network.26": {"out_features": 4, "in_features": left},
        }
        if more
        else {}
    )
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_onnx_is_run_by_onnxruntime_in_batches_of_any_size(ledger: Ledger) -> None:
    trial_id, index = pruned(ledger)
    session = onnxruntime.InferenceSession(
        str(export(ledger, trial_id, "--format", "onnx", "--compact") / "model.onnx")
    )
    image, stored = validation(ledger, trial_id, index)
    parts = [session.run(["logits"], {"image": part.numpy()})[0] for part in image.split([1, 20, 43])]
    agrees(np.concatenate(parts), stored)


def test_torch_export_is_a_program_of_its_own(ledger: Ledger) -> None:
    trial_id, index = pruned(ledger)
    folder = export(ledger, trial_id, "--format", "torch-export")
    image, stored = validation(ledger, trial_id, index)
    agrees(torch.export.load(folder / "model.pt2").module()(image).detach(), stored)
    agrees(load_exported(folder)(image[:5]).detach(), stored.head())


def test_the_card_has_the_ledgers_numbers_in_the_hubs_form(ledger: Ledger) -> None:
    trial_id, index = pruned(ledger)
    text = (export(ledger, trial_id, "--compact") / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    card = yaml.safe_load(front)
    rows = pd.read_parquet(ledger.root / "rounds" / f"{trial_id}.parquet").set_index("round").loc[index]
    evidence = pd.read_parquet(ledger.root / "evidence" / f"{trial_id}.parquet")
    eodd = evidence[(evidence["round"] == index) & (evidence["metric"] == "eodd")].iloc[0]
    assert card["library_name"] == "pytorch" and card["pipeline_tag"] == "image-classification"
    (result,) = card["model-index"][0]["results"]
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert found == {name: pytest.approx(rows[f"val_{name}"], abs=1e-6) for name in ("f1", "eodd", "eopp0", "eopp1")}
    line = next(line for line in body.splitlines() if line.startswith("| Eodd |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == [f"{eodd['observed']:.4f}", f"{eodd['low']:.4f} to {eodd['high']:.4f}"]
    assert cells[3] == f"{eodd['floor_mean']:.4f} ({eodd['floor_low']:.4f} to {eodd['floor_high']:.4f})"
    assert cells[4:] == [f"{eodd['excess']:+.4f}", f"{eodd['p']:.3f}"]
    for needed in ("Intended use", "## Data and groups", "## Limits", "n = 64 images", "selected by best_val_fate"):
        assert needed in body
    assert "seed 0" in body and "configuration" in body and f"round{index}" in body
    assert ledger.definition()["test_reveals"] == 0
    tested = pd.read_parquet(ledger.root / "predictions" / f"{trial_id}.parquet").query("split == 'test'")
    accuracy = float((tested["label"] == tested["prediction"])[tested["round"] == index].mean())
    assert f"{accuracy:.4f}" not in body


def test_the_command_in_the_error_makes_weights_that_were_not_kept(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bit for bit what was kept before; nothing of it goes into the ledger."""
    trial_id, _ = pruned(ledger)
    kept = load_file(export(ledger, trial_id) / "model.safetensors")
    shutil.rmtree(ledger.root.parent / "out")
    shutil.rmtree(ledger.root / "models" / trial_id)
    before = sorted(path.relative_to(ledger.root) for path in ledger.root.rglob("*"))
    assert main(["export", str(ledger.root), trial_id, "--out", str(ledger.root.parent / "out")]) == 2
    said = capsys.readouterr().err
    assert "were not kept" in said and not (ledger.root.parent / "out").exists()
    (line,) = [line for line in said.splitlines() if "--recompute" in line]
    assert main(shlex.split(line.partition("which is: ")[2])[1:]) == 0
    again = load_file(ledger.root.parent / "out" / "model.safetensors")
    assert again.keys() == kept.keys() and all(torch.equal(again[key], kept[key]) for key in kept)
    assert "made again" in (ledger.root.parent / "out" / "README.md").read_text()
    assert sorted(path.relative_to(ledger.root) for path in ledger.root.rglob("*")) == before


def test_weights_made_again_that_answer_otherwise_are_refused(ledger: Ledger) -> None:
    """As on a GPU, or with other versions: here the ledger's predictions are those of another model."""
    trial_id, index = pruned(ledger)
    shutil.rmtree(ledger.root / "models" / trial_id)
    path = ledger.root / "predictions" / f"{trial_id}.parquet"
    table = pd.read_parquet(path)
    chosen = table.index[(table["round"] == index) & (table["split"] == "val")][0]
    table.loc[chosen, "prediction"] = (table.loc[chosen, "prediction"] + 1) % 4
    table.to_parquet(path)
    code = main(["export", str(ledger.root), trial_id, "--out", str(ledger.root.parent / "out"), "--recompute"])
    assert code == 2 and not (ledger.root.parent / "out").exists()


def test_weights_of_another_round_are_refused(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    trial_id, index = pruned(ledger)
    path = ledger.root / "models" / trial_id / "model.json"
    path.write_text(json.dumps({"trial_id": trial_id, "round": 3 - index}))
    assert main(["export", str(ledger.root), trial_id]) == 2
    assert f"holds round {3 - index}, and round {index} is selected" in capsys.readouterr().err


def test_round_0_is_the_base_model(ledger: Ledger) -> None:
    """Its weights are always kept, and no channel of it is pruned."""
    path = ledger.definition_path
    content = json.loads(path.read_text())
    for arm in content["arms"]:
        arm["config"]["select"] = "round:0"
    path.write_text(json.dumps(content))
    trial_id, _ = pruned(ledger)
    folder = export(ledger, trial_id, "--compact")
    base_id = content["arms"][0]["trials"][0]["base_id"]
    kept = load_file(ledger.root / "bases" / base_id / "model.safetensors")
    again = load_file(folder / "model.safetensors")
    assert all(torch.equal(again[key], kept[key]) for key in kept)
    assert "round 0, the model before pruning" in (folder / "README.md").read_text()


def test_a_model_that_answers_otherwise_is_not_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compaction that takes living channels: the check finds it, and what was there stays."""
    trial_id, _ = pruned(ledger)
    folder = export(ledger, trial_id)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    from scp_ray.export import compact

    def all_but_one(network: Any, layer: Any) -> torch.Tensor:
        return torch.arange(layer.channels) > 0

    monkeypatch.setattr(compact, "silent_channels", all_but_one)
    assert main(["export", str(ledger.root), trial_id, "--out", str(folder), "--compact"]) == 2
    assert "differ from the masked model's" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_left_alone(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    trial_id, _ = pruned(ledger)
    other = ledger.root.parent / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("...")
    assert main(["export", str(ledger.root), trial_id, "--out", str(other)]) == 2
    assert "holds something that is no export" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
    first = export(ledger, trial_id)
    assert export(ledger, trial_id, "--compact") == first
    assert json.loads((first / "config.json").read_text())["channels"] != {}


@pytest.mark.parametrize(("package", "more"), [("torch_pruning", ["--compact"]), ("onnxscript", ["--format", "onnx"])])
def test_a_missing_package_is_named_with_its_extra(
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    more: list[str],
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    monkeypatch.setitem(sys.modules, package, None)
    trial_id, _ = pruned(ledger)
    assert main(["export", str(ledger.root), trial_id, "--out", str(ledger.root.parent / "out"), *more]) == 2
    assert "pip install 'scp_ray[export]'" in capsys.readouterr().err
    assert not (ledger.root.parent / "out").exists()


def test_the_data_set_has_to_be_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scp_ray.data.synthetic import Synthetic

    def gone(self: Any) -> Any:
        raise DataError("no images here.")

    monkeypatch.setattr(Synthetic, "load", gone)
    trial_id, _ = pruned(ledger)
    assert main(["export", str(ledger.root), trial_id]) == 2
    said = capsys.readouterr().err
    assert "no images here." in said and "--root" in said


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("", "2 trials fit ''"),
        ("zz", "no trial fits 'zz'"),
        ("pr_c=0.3", "no arm fits 'pr_c=0.3'"),
        ("pr_c=0.1,seed=4", "no trial fits"),
        (
            "seed=0",
            "'seed=0' names no arm, and there are 2: 'pr_c=0.1', 'pr_c=0.2'. Name one too, as in 'pr_c=0.1, seed=0'",
        ),
    ],
)
def test_a_trial_that_is_not_one(ledger: Ledger, capsys: pytest.CaptureFixture[str], asked: str, words: str) -> None:
    assert main(["export", str(ledger.root), asked]) == 2
    assert words in capsys.readouterr().err


def test_a_trial_by_its_arm_and_seed(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    arms = {arm["label"]: arm["trials"][0]["trial_id"] for arm in ledger.definition()["arms"]}
    out = ledger.root.parent / "by-arm"
    assert main(["export", str(ledger.root), "pr_c=0.2, seed=0", "--json", "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["trial_id"] == arms["pr_c=0.2"] and said["folder"] == str(out)
    assert said["before"]["macs"] == said["after"]["macs"] > 0 and said["latency"]["calls"] == 31


def test_a_disk_that_refuses_leaves_what_was_there(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of two renames fails: the earlier export is brought back."""
    trial_id, _ = pruned(ledger)
    folder, rename = export(ledger, trial_id), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if ".new." in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    assert main(["export", str(ledger.root), trial_id, "--out", str(folder), "--compact"]) == 2
    assert json.loads((folder / "config.json").read_text())["channels"] == {}
    assert write.CARD in {path.name for path in folder.iterdir()}


def test_a_folder_without_an_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds no exported model"):
        load_exported(tmp_path)
