"""The search spaces that come with the package."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest

from scp_ray.config import SweepConfig, read_space, shipped_spaces
from scp_ray.config.parse import read_plugin
from scp_ray.data.base import DataSet, datasets

# by hand: k of every arm, and the number of seeds
VGG_LAYERS = [1, 3, 5, 5, 10, 10, 10, 10]  # 0.02 of 64, 128, 256, 256 and four times 512 channels
SHIPPED = {
    ("fig2a-pruning-ratio", None): ([5, 10, 15, 26, 51], 5),  # of 512
    ("fig2a-pruning-ratio", "smoke"): ([1, 1, 2, 3, 6], 2),  # of 64
    ("fig2b-layer", None): (VGG_LAYERS, 5),
    ("fig2b-layer", "smoke"): ([1] * 8, 2),  # at most 1.28
    ("isic2019-mini", None): ([10, 51], 2),  # of 512
    ("table1-fitzpatrick", None): ([10] * 8, 5),
    ("table1-fitzpatrick", "smoke"): ([1] * 7, 1),
    ("table2-isic", None): ([10] * 7, 5),
    ("table2-isic", "smoke"): ([1] * 7, 1),
    ("synthetic-methods", None): ([3, 0, 3] + [3] * 10, 5),  # of 64
    ("supp1", None): ([10] * 6, 5),
    ("supp1", "smoke"): ([1] * 6, 1),
    ("supp2", None): ([10] * 5, 5),
    ("supp2", "smoke"): ([1] * 5, 1),
    ("supp3-composition", None): ([10] * 11, 5),
    ("supp3-composition", "smoke"): ([1] * 11, 1),
    ("ablation-criterion", None): ([10] * 7 + [0], 5),
    ("ablation-criterion", "smoke"): ([1] * 7 + [0], 1),
    ("ablation-temperature", None): ([10] * 6, 5),
    ("ablation-temperature", "smoke"): ([1] * 6, 1),
    ("ablation-distance", None): ([10] * 4, 5),
    ("ablation-distance", "smoke"): ([1] * 4, 1),
    # of a search its start point, with the seeds that it begins with
    ("optuna-tradeoff", None): ([10], 3),  # of 512
    ("optuna-tradeoff", "smoke"): ([1], 2),  # of 64
    ("optuna-isic", None): ([10], 3),
    ("optuna-isic", "smoke"): ([1], 2),
    ("quickstart", None): ([3, 3, 13, 13], 2),  # of 64 on either layer
}
VARIANTS = [
    (stem, profile)
    for stem, path in shipped_spaces().items()
    for profile in [None, *re.findall(r"^  ([\w-]+):", path.read_text().partition("\nprofiles:")[2], re.MULTILINE)]
]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_shipped_space_is_counted_here():
    assert set(VARIANTS) == set(SHIPPED)


@pytest.mark.parametrize(("stem", "profile"), VARIANTS)
def test_a_shipped_space_has_the_arms_it_says(stem, profile, no_network):
    raw = read_space(stem, profile=profile, overrides=["trial.dataset={name: synthetic, image_size: 96}"])
    arms = SweepConfig.from_dict(raw).resolved_arms()
    ks, seeds = SHIPPED[stem, profile]
    assert [arm.trials[0].k for arm in arms] == ks
    assert {len(arm.trials) for arm in arms} == {seeds}


@pytest.mark.parametrize(("stem", "profile"), VARIANTS)
def test_the_data_set_of_a_shipped_space_can_be_named(stem, profile):
    faults: list[str] = []
    data_set = read_plugin(datasets, read_space(stem, profile=profile)["trial"]["dataset"], "trial.dataset", faults)
    assert faults == []
    assert isinstance(data_set, DataSet)


@pytest.mark.parametrize("stem", shipped_spaces())
def test_a_shipped_space_opens_with_its_question_its_command_and_its_costs(stem):
    text = shipped_spaces()[stem].read_text(encoding="utf-8")
    opening = text.partition("\nname:")[0].splitlines()
    assert all(line.startswith("# ") for line in opening)
    assert "?" in opening[0]
    assert any(re.search(rf"scp-ray sweep {stem}(\s|$)", line) for line in opening)
    assert any(re.match(r"# Costs: .*\d+ base models? .*\d+ trials", line) for line in opening)
    # the counts, of what a sweep would train and run
    raw = read_space(stem, overrides=["trial.dataset={name: synthetic, image_size: 96}", "trial.backbone.weights=none"])
    config = SweepConfig.from_dict(raw)
    arms = config.resolved_arms()
    if search := config.search:  # every choice once with all its seeds, as far as base models go
        arms += [config.arm_at(settings, search.replicates.seeds) for _, settings in search.probes()]
    trials = [trial for arm in arms for trial in arm.trials]
    pruned = str(len({trial.trial_id for trial in trials if trial.config.rounds}))
    if search:
        pruned = " to ".join(str(search.trials * len(s)) for s in (search.replicates.first, search.replicates.seeds))
    bases = {base for trial in trials for base in trial.bases()}
    most = max(trial.config.rounds for trial in trials)
    assert re.search(rf"# Costs: {len(bases)} base models .* {pruned} trials of {most} ", text)
    # the ledger's folder is the name that was asked for
    assert re.search(r"^name: (.*)$", text, re.MULTILINE)[1] == stem
