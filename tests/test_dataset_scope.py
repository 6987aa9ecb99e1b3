"""``criterion: {name: snnl, scope: dataset}``: all training samples as one batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from miniature import TRIAL
from planted import as_batch, planted_data
from scipy.spatial.distance import cdist
from torch.utils.data import DataLoader, Dataset

from scp_ray.activations import layer_output
from scp_ray.assembly import build_learner, layer_scores
from scp_ray.backbones.base import backbones
from scp_ray.config import TrialConfig, resolve
from scp_ray.config.identity import scores_id
from scp_ray.criteria.snnl import SNNL, SNNLReleased
from scp_ray.data.batches import scoring_order
from scp_ray.errors import ConfigError, ResourceError, ScoreError
from scp_ray.loop.picking import Pick
from scp_ray.loop.prune import prune_for_fairness
from scp_ray.maths.snnl import snnl_scores
from scp_ray.maths.snnl_tiled import snnl_scores_tiled
from scp_ray.parts import Batch, Learner, PrunableLayer, TrainPlan
from scp_ray.registry import spec_of

DATA = planted_data()
WHOLE = as_batch(DATA.splits["train"])
CRITERIA = [SNNL(scope="dataset"), SNNL(temperature=3.0, scope="dataset"), SNNLReleased(scope="dataset")]


def learner_and_layer() -> tuple[Learner, PrunableLayer]:
    learner = Learner(*backbones.get("tiny")().build(3, image_size=16, seed=0)).eval()
    return learner, learner.layers[-1]


def batches(size: int) -> list[Batch]:
    return [as_batch(DATA.splits["train"], rows) for rows in torch.arange(48).split(size)]


def at_once(criterion: SNNL, group: torch.Tensor) -> torch.Tensor:
    """By ``snnl_scores`` from the maps of all samples."""
    options: dict[str, Any] = {key: getattr(criterion, key) for key in ("distance", "temperature", "self_pair")}
    return snnl_scores(layer_output(*learner_and_layer(), WHOLE), group, **options)


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
@pytest.mark.parametrize("size", [48, 7])
def test_it_is_the_score_of_one_batch_of_all_samples(criterion: SNNL, size: int) -> None:
    """However many go forward at a time, a last batch of 6 of 7 included; and not the mean over those batches."""
    learner, layer = learner_and_layer()
    scores = criterion.score(learner, layer, batches(size))
    assert (scores.shape, scores.dtype) == ((64,), torch.float32)
    torch.testing.assert_close(scores, at_once(criterion, WHOLE.group), rtol=1e-5, atol=0)
    by_batch = replace(criterion, scope="batch").score(learner, layer, batches(7))
    assert not torch.allclose(scores, by_batch, rtol=1e-3)


def test_several_labellings(monkeypatch: pytest.MonkeyPatch) -> None:
    group = torch.stack([WHOLE.group, WHOLE.label, WHOLE.group.roll(5)])
    learner, layer = learner_and_layer()
    scores = CRITERIA[0].score(learner, layer, iter(batches(16)), group=group)
    torch.testing.assert_close(scores, at_once(CRITERIA[0], group), rtol=1e-5, atol=0)
    assert torch.equal(CRITERIA[0].score(learner, layer, batches(16)), scores[0])
    with pytest.raises(ValueError, match="N = 48 samples"):
        CRITERIA[0].score(learner, layer, batches(16), group=group[:, :40])
    with pytest.raises(ValueError, match=r"group must be \(R, N\)"):
        CRITERIA[0].score(learner, layer, batches(16), group=group[0])


@pytest.mark.parametrize("together", [1, 5, 64])
def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    learner, layer = learner_and_layer()
    expected = CRITERIA[0].score(learner, layer, batches(16))
    monkeypatch.setattr(SNNL, "BLOCK_CHANNELS", together)
    assert torch.equal(CRITERIA[0].score(learner, layer, batches(16)), expected)


def test_blocks_depend_on_the_maps_alone() -> None:
    """16 channels of 13,000 maps of 8 x 8 are 53 MB; one of 56 x 56 has 163 MB, of 224 x 224 more than a block."""
    blocks = SNNL().blocks
    assert blocks(40, 13_000, 64) == [slice(0, 16), slice(16, 32), slice(32, 40)]
    assert blocks(2, 13_000, 56 * 56) == blocks(2, 13_000, 224 * 224) == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_offset_is_the_score_of_constant_maps(criterion: SNNL) -> None:
    group = torch.stack([WHOLE.group, (torch.arange(48) < 5).long()])
    constant = torch.zeros(48, 1, 1)
    options: dict[str, Any] = {key: getattr(criterion, key) for key in ("distance", "temperature", "self_pair")}
    torch.testing.assert_close(criterion.offset(group, [7, 41]), snnl_scores(constant, group, **options))


def test_samples_that_cannot_be_scored() -> None:
    learner, layer = learner_and_layer()
    with pytest.raises(ScoreError, match="the samples do not hold two groups"):
        CRITERIA[0].score(learner, layer, batches(16), group=torch.ones(1, 48).long())
    with pytest.raises(ScoreError, match="there is no scoring batch"):
        CRITERIA[0].score(learner, layer, [])


def test_no_room_for_the_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 maps of 64 channels at 1 x 1 take three pages; the first batch of 6 alone would take one."""
    size = layer_output(*learner_and_layer(), WHOLE)[0].numel() * 4 * 48
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "none", tmp_path], check=False)
    if not os.path.ismount(tmp_path):
        pytest.skip("file systems cannot be mounted here")
    try:
        for given in (batches(6), iter(batches(6))):
            group = None if isinstance(given, list) else WHOLE.group[None]
            with pytest.raises(ResourceError, match=r"48 samples take .* Set TMPDIR"):
                CRITERIA[0].score(*learner_and_layer(), given, group=group)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_every_row_counts() -> None:
    """Of 150 rows in batches of 128 also the last 22, and of 200 the last 72."""
    for count in (3, 150, 200):
        for order in ("permuted", "table"):
            rows = scoring_order(count, 128, order=order, last_batch="drop", scope="dataset")
            assert rows.tolist() == list(range(count))


def config_of(**criterion: Any) -> TrialConfig:
    return TrialConfig.from_dict(TRIAL | {"criterion": {"name": "snnl", **criterion}})


def test_a_trial_scores_its_whole_training_split() -> None:
    """96 samples in batches of 40: by batches the last 16 would not count."""
    config = config_of(scope="dataset", batch_size=40)
    data = config.dataset.load()
    learner = build_learner(config, data, {}).eval()
    layer, train = learner.layers[-1], data.splits["train"]
    scores = layer_scores(config, data, torch.device("cpu"), learner, layer).scores
    group = train.attributes[:, 0]
    maps = layer_output(learner, layer, Batch(train.image / 255, train.label, group, train.attributes))
    torch.testing.assert_close(scores, snnl_scores(maps, group), rtol=1e-4, atol=0)
    significant = replace(config, pick=Pick("significant", permutations=20))
    tested = layer_scores(significant, data, torch.device("cpu"), learner, layer)
    torch.testing.assert_close(tested.scores, scores)
    assert tested.p is not None and tested.p.isfinite().all()


def test_prune_for_fairness_scores_every_sample() -> None:
    """48 samples in batches of 40: 8 would be left out."""

    class Listed(Dataset[Any]):
        def __len__(self) -> int:
            return 48

        def __getitem__(self, row: int) -> Any:
            return WHOLE.image[row], WHOLE.label[row], WHOLE.group[row]

    learner, layer = learner_and_layer()
    loader = DataLoader(Listed(), 8, shuffle=True)
    plan = TrainPlan(epochs=0)
    criterion = SNNL(scope="dataset", batch_size=40)
    pruned = prune_for_fairness(
        learner.network, loader, loader, layer=layer.index, criterion=criterion, pr_c=0.1, rounds=1, fine_tune=plan
    )
    torch.testing.assert_close(pruned.rounds[0].scores.scores, at_once(criterion, WHOLE.group), rtol=1e-4, atol=0)


def test_ids() -> None:
    """``batch`` is what was done before. As one batch, how many go forward at a time and in which order is nothing."""
    plain, whole = resolve(config_of()), resolve(config_of(scope="dataset"))
    assert resolve(config_of(scope="batch")).trial_id == plain.trial_id != whole.trial_id
    assert "scope" not in spec_of(SNNL()) and spec_of(SNNL(scope="dataset"))["scope"] == "dataset"
    for other in ({"batch_size": 7}, {"order": "table"}, {"last_batch": "drop"}):
        assert resolve(config_of(scope="dataset", **other)).trial_id == whole.trial_id
        assert resolve(config_of(**other)).trial_id != plain.trial_id
    assert resolve(config_of(scope="dataset", temperature=2.0)).trial_id != whole.trial_id
    assert len({scores_id(config_of(**scope), whole.layer) for scope in ({}, {"scope": "dataset"})}) == 2
    assert TrialConfig.from_dict(whole.config.as_dict()) == whole.config
    with pytest.raises(ConfigError, match=r"scope.*'all'.*batch.*dataset"):
        config_of(scope="all")


def test_images_go_forward_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 48 by 10: the same maps, group and order kept."""
    learner, layer = learner_and_layer()
    seen: list[tuple[int, list[int]]] = []
    learner.register_forward_pre_hook(lambda _, given: seen.append((len(given[0]), given[1].tolist())))
    monkeypatch.setattr(SNNL, "FORWARD", 10)
    maps = CRITERIA[0].maps(learner, layer, WHOLE)
    assert [count for count, _ in seen] == [10, 10, 10, 10, 8]
    assert [code for _, codes in seen for code in codes] == WHOLE.group.tolist()
    torch.testing.assert_close(maps, layer_output(learner, layer, WHOLE).flatten(2), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_13_000_samples_of_512_channels_in_less_than_1_gb() -> None:
    """VGG-11's 512 maps of 8 x 8: all are written, 16 channels are scored; MB of forward passes and of scores."""
    command = [sys.executable, "-m", "benchmarks.scores_dataset", "--whole", "13000", "16"]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    _, _, forward, scoring = map(float, run.stdout.split())
    assert 0 < forward < 1000
    assert 0 < scoring < 1000


@pytest.mark.slow
def test_a_channel_of_13_000_samples_against_scipy() -> None:
    """Row by row from scipy's distances: the mean distance first, then each sample's two sums."""
    rows = np.random.default_rng(0).normal(size=(13_000, 64)).astype(np.float32)
    codes = (np.arange(13_000) % 10 < 3).astype(int)
    rows[codes == 1, 0] += 1
    parts = np.array_split(np.arange(13_000), 100)
    mean = sum(cdist(rows[part], rows, "sqeuclidean").sum() for part in parts) / (13_000 * 12_999)
    total = 0.0
    for part in parts:
        weights = np.exp(-cdist(rows[part], rows, "sqeuclidean") / mean)
        weights[np.arange(len(part)), part] = 0
        own = (weights * (codes[part][:, None] == codes)).sum(1)
        total -= np.log(own / weights.sum(1)).sum()
    score = snnl_scores_tiled(torch.from_numpy(rows)[:, None], torch.from_numpy(codes))
    assert score.item() == pytest.approx(total / 13_000, rel=1e-10)
