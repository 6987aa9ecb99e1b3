"""What runs on a GPU, run on a simulated device: tensors of both sides do not mix, and the numbers are the CPU's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from every_method import METHODS, method
from simulated_device import build, compiler

from scp_ray.criteria.base import criteria

HERE = Path(__file__).parent
PLAN: dict[str, Any] = {"batch_size": 16, "augment": "released", "epochs": 1, "lr": 0.01}
IMAGES: dict[str, Any] = {"name": "synthetic", "image_size": 64, "train": 64, "val": 32, "test": 16}
GROUPS_APART = ("fair-adabn",)  # how many samples each group has is asked in every step


def case(**changes: Any) -> dict[str, Any]:
    return {
        **{"dataset": IMAGES, "backbone": "tiny", "method": "vanilla", "pr_c": 0.1, "rounds": 2},
        **{"train": PLAN, "fine_tune": PLAN},
        **changes,
    }


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("needs a C++ compiler")
    return build(tmp_path_factory.mktemp("library"))


def answers(library: Path, cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In a process of its own: a device cannot be unregistered."""
    run = subprocess.run(
        [sys.executable, str(HERE / "on_a_device.py"), str(library)],
        input=json.dumps(cases),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])},
    )
    return list(json.loads(run.stdout))


def check(answer: dict[str, Any], rounds: int = 2) -> None:
    assert answer["rounds"] == rounds
    assert answer["same_channels"]
    assert max(answer["apart"]) < 1e-5


def test_a_trial_is_the_cpus_and_its_steps_wait_for_nothing(library: Path) -> None:
    """Twice the steps, as many waits: those of the epoch's end."""
    (answer,) = answers(library, [case()])
    check(answer)
    assert answer["waits"][0] == answer["waits"][1] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in METHODS if name != "vanilla"])
def test_every_method(library: Path, name: str) -> None:
    (answer,) = answers(library, [case(method=method(name))])
    check(answer)
    if name not in GROUPS_APART:
        assert answer["waits"][0] == answer["waits"][1]


@pytest.mark.slow
def test_every_criterion_and_way_to_pick(library: Path) -> None:
    cases = [case(criterion=name, rounds=1) for name in criteria.names() if "test" not in name]
    cases += [case(rounds=1, pick={"rule": "significant", "q": 0.5, "permutations": 20})]
    for answer in answers(library, cases):
        check(answer, rounds=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", ["resnet18", "vgg11", "vgg11-bn", {"name": "torchvision", "model": "mobilenet_v2"}]
)
def test_every_kind_of_backbone(library: Path, backbone: Any) -> None:
    (answer,) = answers(library, [case(backbone=backbone, rounds=1)])
    check(answer, rounds=1)
