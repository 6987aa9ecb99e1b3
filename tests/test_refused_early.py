"""What needs no pixel is refused before a single image is decoded, with its exit code, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from asking import ask
from PIL import Image

from scp_ray.data.source import Source

FINE = {"epochs": 1, "batch_size": 8, "lr": 0.01}
SPACE: dict[str, Any] = {
    "name": "pictured",
    "trial": {
        "dataset": {"name": "isic2019", "image_size": 32},
        "backbone": "tiny",
        "pr_c": 0.1,
        "rounds": 1,
        "train": FINE,
        "fine_tune": FINE,
    },
    "resources": {"cpus_per_trial": 1, "device": "cpu"},
}


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """Noise of two classes and two sexes, 24 images a split, and a space on them."""
    rng, root = np.random.default_rng(0), tmp_path / "data"
    (root / "images").mkdir(parents=True)
    lines = ["image,lesion_id,low,gender,split"]
    for row in range(72):
        split = ("train", "val", "test")[row % 3]
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(root / "images" / f"i{row:02d}.jpg")
        lines.append(f"i{row:02d},,{row // 3 % 2},{row // 6 % 2},{split}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    trial = SPACE["trial"] | {"dataset": SPACE["trial"]["dataset"] | {"root": str(root)}}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE | {"trial": trial}))
    return path


def made_of_images(space: Path) -> list[str]:
    """What lies where images that were looked at, or decoded, are kept."""
    folder = Source(space.parent / "data", ("images/i00.jpg",)).folder
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def held_elsewhere(folder: Path) -> bytes:
    folder.mkdir(parents=True)
    content = {"host": "elsewhere", "pid": 4711, "token": "theirs", "heartbeat": time.time()}
    (folder / "driver.json").write_text(json.dumps(content))
    return (folder / "driver.json").read_bytes()


@pytest.mark.parametrize(
    ("command", "setting", "code", "words"),
    [
        ("sweep", "trial.layer=20", 2, "20 not found"),
        ("trial", "trial.layer=20", 2, "20 not found"),
        ("sweep", "trial.rounds=64", 2, "rounds would leave none"),
        ("trial", "trial.backbone={name: tiny, weights: absent.pt}", 2, "absent.pt"),
        ("sweep", "trial.backbone={name: tiny, weights: absent.pt}", 2, "absent.pt"),
        ("sweep", "resources.cpus_per_trial=4096", 3, "The nearest request that fits: --set resources.cpus_per_trial="),
        ("sweep", "resources.device=cuda", 3, "resources.device"),
        ("trial", "resources.device=cuda", 3, "CUDA"),
    ],
)
def test_a_request_that_cannot_be_met(space: Path, tmp_path: Path, command: str, setting: str, code: int, words: str):
    answer = ask(command, space, "--out", tmp_path / "deep" / "results", "--set", setting)
    assert answer.code == code, answer.err
    assert words in answer.err and "images" not in answer.err
    assert made_of_images(space) == []
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_sweep_that_another_driver_holds(space: Path, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "results" / "pictured"
    before = held_elsewhere(folder)
    answer = ask(command, space, "--out", tmp_path / "results")
    assert answer.code == 4
    assert made_of_images(space) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"driver.json": before}


@pytest.mark.parametrize(
    ("option", "code"), [("--layer=20", 2), ("--pick={rule: significant, attributes: [hair]}", 2), ("--device=cuda", 3)]
)
def test_a_scoring_that_cannot_be(space: Path, tmp_path: Path, option: str, code: int) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({}, weights)
    data = f"{{name: isic2019, root: {space.parent / 'data'}, image_size: 32}}"
    answer = ask("score", "--weights", weights, "--dataset", data, "--backbone", "tiny", option)
    assert answer.code == code, answer.err
    assert made_of_images(space) == []


def test_images_that_were_only_looked_at_are_not_decoded_for_a_request_that_cannot_be_met(
    space: Path, tmp_path: Path
) -> None:
    """A dry run has looked at them, and so has a trial with pictures of another size."""
    out = tmp_path / "results"
    assert ask("sweep", space, "--out", out, "--dry-run").code == 0
    looked_at = made_of_images(space)
    answer = ask("sweep", space, "--out", out, "--set", "resources.cpus_per_trial=4096")
    assert answer.code == 3 and made_of_images(space) == looked_at and not out.exists()
    assert ask("trial", space, "--out", out).code == 0
    bigger = ("--set", "trial.dataset.image_size=40", "--set", "name=bigger", "--set", "resources.cpus_per_trial=4096")
    decoded = made_of_images(space)
    assert len(decoded) > len(looked_at)
    assert ask("sweep", space, "--out", out, *bigger).code == 3
    assert made_of_images(space) == decoded


def test_what_is_done_asks_for_nothing(space: Path, tmp_path: Path) -> None:
    """Neither the CPUs that it took nor the store that it was made from have to be here to say that it is done."""
    assert ask("trial", space, "--out", tmp_path / "results").code == 0
    folder = Source(tmp_path / "data", ("images/i00.jpg",)).folder
    (store,) = folder.glob("32px-*.arrow")
    store.unlink()
    answer = ask("sweep", space, "--out", tmp_path / "results", "--set", "resources.cpus_per_trial=4096")
    assert answer.code == 0, answer.err
    assert "Nothing to do" in answer.err and not store.exists()


def test_a_dry_run_says_where_nothing_fits(space: Path, tmp_path: Path) -> None:
    """In the words of the sweep, which is refused; the plan is made all the same, for a machine that has more."""
    asked = ("sweep", space, "--out", tmp_path / "results", "--set", "resources.cpus_per_trial=4096")
    refused = ask(*asked)
    assert refused.code == 3
    reason = refused.err.removeprefix("scp-ray: ").strip()
    assert reason.startswith(
        "a trial asks for 4096 CPUs and 0 GPUs on one node, and the nodes cannot hold that at once"
    )
    assert f"The nearest request that fits: --set resources.cpus_per_trial={os.cpu_count()}" in reason
    answer = ask(*asked, "--dry-run", "--json")
    assert answer.code == 0
    assert f"(exit code 3): {reason}\n" in answer.err and "0 trials at a time" not in answer.err
    assert answer.json["estimate"]["cannot_run"] == reason
    assert ask(*asked[:4], "--dry-run", "--json").json["estimate"]["cannot_run"] is None
