"""``scp-ray score``: the scores that a trial made, from its weights alone or from a bare file."""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from miniature import SPACE, TRIAL
from safetensors.torch import load_file
from stores import S3

from scp_ray.cli.main import main
from scp_ray.cli.score import _check_places
from scp_ray.ledger import Ledger
from scp_ray.ledger.files import write_bytes
from scp_ray.tune import preflight
from scp_ray.tune.placement import Node

DATASET = yaml.safe_dump(TRIAL["dataset"], default_flow_style=True).strip()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """One trial of two rounds; every round is scored by a criterion of 32 images a batch."""
    folder = tmp_path_factory.mktemp("scored")
    trial = TRIAL | {"criterion": {"name": "snnl", "batch_size": 32}, "select": "round:1"}
    space = folder / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE | {"trial": trial}))
    assert main(["trial", str(space), "--out", str(folder)]) == 0
    return Ledger(folder / "miniature")


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def channels_of(ledger: Ledger, index: int) -> pd.DataFrame:
    table = pd.read_parquet(only(ledger.root / "channels"))
    return table[table["round"] == index].sort_values("channel").reset_index(drop=True)


def scored(capsys: pytest.CaptureFixture[str], *words: str) -> pd.DataFrame:
    capsys.readouterr()
    assert main(["score", *words, "--json"]) == 0
    return pd.DataFrame(json.loads(capsys.readouterr().out)["channels"])


def test_a_base_model_in_a_sweep_is_scored_as_its_trial_did(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """Round 1 scores the base; of its 64 channels the 6 of rank 1..6 are those that the trial pruned."""
    table, before = scored(capsys, "--weights", str(only(ledger.root / "bases"))), channels_of(ledger, 1)
    assert table["score"].astype("float32").tolist() == before["score"].tolist()
    assert table["kept"].all() and sorted(table["rank"]) == list(range(1, 65))
    assert sorted(table["channel"][table["rank"] <= 6]) == sorted(before["channel"][before["pruned"]])


def test_a_pruned_model_is_scored_as_the_next_round_did(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """The model of round 1 was kept, and round 2 scored it: 58 channels are left to be ranked."""
    weights = only(ledger.root / "models") / "model.safetensors"
    table, before = scored(capsys, "--weights", str(weights)), channels_of(ledger, 2)
    assert table["score"].astype("float32").tolist() == before["score"].tolist()
    assert table["kept"].sum() == 58 and table["rank"].notna().equals(table["kept"])
    assert sorted(table["channel"][table["rank"] <= 6]) == sorted(before["channel"][before["pruned"]])


@pytest.mark.ray
def test_a_plain_file_and_four_scorers(ledger: Ledger, tmp_path: Path) -> None:
    """Nothing but options says what the file is; the numbers are those of the sweep."""
    weights, out = tmp_path / "weights.safetensors", tmp_path / "tables" / "scores.csv"
    shutil.copy(only(ledger.root / "bases") / "model.safetensors", weights)
    command = [sys.executable, "-m", "scp_ray.cli.main", "score", "--weights", str(weights), "--layer", "-1"]
    command += ["--dataset", DATASET, "--backbone", "tiny", "--criterion", "{name: snnl, batch_size: 32}"]
    run = subprocess.run(
        [*command, "--scorers", "4", "--out", str(out)], capture_output=True, text=True, timeout=240, check=True
    )
    assert pd.read_csv(out)["score"].astype("float32").tolist() == channels_of(ledger, 1)["score"].tolist()
    assert run.stdout == "" and "3 of 3 pieces" in run.stderr


@pytest.mark.ray
def test_scorers_without_a_place_are_refused(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """A Ray of our own on this machine has no 1,000 GPUs."""
    words = ["score", "--weights", str(only(ledger.root / "bases")), "--scorers", "2", "--device", "cpu"]
    assert main([*words, "--gpus-per-scorer", "1000"]) == 3
    captured = capsys.readouterr()
    assert "no node can hold a scorer of 1 CPU and 1000 GPUs; there are" in captured.err and captured.out == ""


def test_scorers_on_a_gpu_need_a_share_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--weights", "W", "--scorers", "2", "--device", "cuda"]) == 3
    assert "--gpus-per-scorer 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scorers", "share", "told"), [(4, 0.0, "3 of 4 scorers"), (3, 0.0, ""), (4, 0.5, "2 of 4 scorers"), (2, 0.5, "")]
)
def test_fewer_places_than_scorers_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scorers: int, share: float, told: str
) -> None:
    """On a node of 2 CPUs and a GPU, and one of a CPU alone."""
    monkeypatch.setattr(preflight, "cluster_nodes", lambda: [Node("a", 2, 1), Node("b", 1, 0)])
    _check_places(argparse.Namespace(scorers=scorers, gpus_per_scorer=share, address=None))
    err = capsys.readouterr().err
    assert err.startswith(told) and bool(err) == bool(told)


def test_options_count_over_what_the_sweep_knows(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """Another layer, another criterion, p-values; a torch file of the bare network gives the same."""
    base = only(ledger.root / "bases")
    options = ["--layer", "2", "--criterion", "gap-taylor", "--pick", "{rule: significant, permutations: 20}"]
    table = scored(capsys, "--weights", str(base), *options)
    assert len(table) == 16 and table["p"].between(0, 1).all()
    state = {name.removeprefix("network."): value for name, value in load_file(base / "model.safetensors").items()}
    torch.save(state, file := base.parent.parent / "bare.pt")
    plain = scored(capsys, "--weights", str(file), "--dataset", DATASET, "--set", "trial.backbone=tiny", *options)
    pd.testing.assert_frame_equal(table, plain)


def test_weights_and_tables_on_an_object_store(ledger: Ledger, s3: S3, tmp_path: Path, capsys, monkeypatch) -> None:
    """A sweep that lies there, or a bare file, gives the scores of the folder on disk; nothing is made here."""
    monkeypatch.chdir(tmp_path)
    sweep, base = s3.folder() / "miniature", only(ledger.root / "bases")
    model = base / "model.safetensors"
    for path, name in ((ledger.root / "sweep.json", "sweep.json"), (model, f"bases/{base.name}/{model.name}")):
        write_bytes(sweep / name, path.read_bytes())
    here = scored(capsys, "--weights", str(base))
    pd.testing.assert_frame_equal(scored(capsys, "--weights", f"{sweep}/bases/{base.name}"), here)
    write_bytes(sweep.parent / "bare.safetensors", model.read_bytes())
    words = ["--dataset", DATASET, "--backbone", "tiny", "--layer", "-1", "--criterion", "{name: snnl, batch_size: 32}"]
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = sweep.parent / "tables" / f"scores{suffix}"
        assert main(["score", "--weights", f"{sweep.parent}/bare.safetensors", *words, "--out", str(out)]) == 0
        assert read(io.BytesIO(out.read_bytes()))["score"].astype("float32").tolist() == here["score"].tolist()
    refused = {"bare.pt": "only .safetensors is read", "damaged.safetensors": "is damaged", "absent": "no such file"}
    for name, told in refused.items():
        if name != "absent":
            write_bytes(sweep.parent / name, b"")
        assert main(["score", "--weights", f"{sweep.parent}/{name}", *words]) == 2
        assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_space_says_what_weights_are(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    space, base = str(ledger.root.parent / "space.yaml"), str(only(ledger.root / "bases"))
    table = scored(capsys, space, "--weights", base, "--set", "trial.layer=1")
    pd.testing.assert_frame_equal(table, scored(capsys, "--weights", base, "--layer", "1"))


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weights", "nowhere"], "no such file"),
        (["--weights", "FILE"], "name them by --dataset"),
        (["--weights", "FILE", "--dataset", DATASET, "--backbone", "resnet18"], "do not fit"),
        (["--weights", "FILE", "--dataset", DATASET, "--backbone", "tiny", "--method", "mfd"], "another trained model"),
        (["--weights", "FILE", "--dataset", "sinthetic"], "Did you mean 'synthetic'"),
        (["--weights", "FILE", "--set", "seeds=[1]"], "only paths below trial"),
        (["--weights", "FILE", "--profile", "smoke"], "needs a SPACE"),
        (["--weights", "FILE", "--out", "scores.xlsx"], "allowed are .csv and .parquet"),
        (["--weights", "EVIL", "--dataset", DATASET, "--backbone", "tiny"], "pickled objects, which are not loaded"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    shutil.copy(only(ledger.root / "bases") / "model.safetensors", tmp_path / "plain.safetensors")
    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    paths = {"FILE": str(tmp_path / "plain.safetensors"), "EVIL": str(tmp_path / "evil.pt")}
    assert main(["score", *(paths.get(word, word) for word in words)]) == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.out == ""
