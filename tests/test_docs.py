"""What README and CONTRIBUTING show is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import scp_ray
from scp_ray.backbones.base import backbones
from scp_ray.cli.main import _COMMANDS, main
from scp_ray.config import SweepConfig
from scp_ray.config.yaml import _load
from scp_ray.criteria.base import criteria
from scp_ray.parts import Learner

ROOT = Path(__file__).parents[1]


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_plug_in_of_contributing_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scores are the weights' standard deviations; labellings give equal rows."""
    criteria.names()  # all loaded before one is added
    monkeypatch.setattr(criteria, "_classes", dict(criteria._classes))
    (code,) = blocks("CONTRIBUTING.md", "python")
    exec(compile(code, "CONTRIBUTING.md", "exec"), {"__name__": "contributing"})
    criterion = criteria.get("weight-spread")()
    learner = Learner(*backbones.get("tiny")().build(3, image_size=32, seed=0))
    layer = learner.layers[-1]
    weight = learner.network.get_submodule(layer.name).weight.detach()
    expected = torch.stack([filters.flatten().std() for filters in weight])
    assert torch.allclose(criterion.score(learner, layer, []), expected)
    assert criterion.score(learner, layer, [], group=torch.zeros(3, 5)).shape == (3, layer.channels)


def test_the_search_space_of_the_readme_is_read() -> None:
    """Three pruning ratios; only the data set, which is not here, is replaced."""
    (text,) = blocks("README.md", "yaml")
    raw: dict[str, Any] = _load(text, "README.md")
    raw["trial"]["dataset"] = "synthetic"
    assert [arm.label for arm in SweepConfig.from_dict(raw).resolved_arms()] == ["pr_c=0.01", "pr_c=0.02", "pr_c=0.05"]


def test_the_commands_of_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = sorted(set(re.findall(r"scp-ray ([a-z]+)\b", text)))
    assert named == sorted(_COMMANDS)
    for command in named:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert f"scp-ray {command}" in capsys.readouterr().out


def test_the_public_names_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"scp_ray\.([a-z_]+)\b", text))
    assert {"prune_for_fairness", "load_sweep", "snnl_scores"} <= named
    for name in named:
        assert getattr(scp_ray, name)


def test_the_pictures_of_the_readme_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
