"""From scores to channels in the loop: the lowest, the significant, by one attribute or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from miniature import TRIAL
from torch import Tensor, nn

from scp_ray import assembly
from scp_ray.assembly import build_learner, layer_scores
from scp_ray.backbones.layers import find_layer
from scp_ray.config import TrialConfig, resolve
from scp_ray.config.identity import scores_id
from scp_ray.criteria.base import Criterion
from scp_ray.criteria.snnl import SNNL
from scp_ray.errors import ConfigError
from scp_ray.loop.picking import Pick, score_channels
from scp_ray.loop.rounds import PrunePlan, prune_rounds
from scp_ray.loop.stopping import StopRule
from scp_ray.maths.null import p_values
from scp_ray.parts import Batch, ChannelScores, Evaluation, Learner, PrunableLayer, TrainPlan, state_to_cpu
from scp_ray.trial import BaseModel, Result, Step, run_trial

CHANNELS = 12
SHOWS_CLASS, SHOWS_GROUP, SHOWS_SITE = 0, 1, 2


class Planted:
    """512 pictures: channel 0 shows the class, 1 the group, which goes with it, 2 the site; the rest is noise."""

    def __init__(self, seed: int = 0, tied: float = 0.85, shown: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.label = torch.arange(512) % 2
        chance = torch.where(self.label == 1, tied, 1 - tied)
        self.group = (torch.rand(512, generator=generator) < chance).long()
        self.site = torch.randint(0, 3, (512,), generator=generator)
        self.image = torch.randn(512, CHANNELS, 4, 4, generator=generator)
        for channel, shows in ((SHOWS_CLASS, self.label), (SHOWS_GROUP, self.group), (SHOWS_SITE, self.site)):
            self.image[:, channel] += shown * shows[:, None, None]
        self.attributes = torch.stack([self.group, self.site], 1)

    def batches(self) -> Iterator[Batch]:
        for rows in torch.arange(512).split(64):
            attributes = self.attributes[rows]
            yield Batch(self.image[rows], self.label[rows], attributes[:, 0], attributes)

    def scores(self, pick: Pick, columns: list[int], spare: tuple[int, ...] = (), unit: Tensor | None = None) -> Any:
        return score_channels(
            SNNL(),
            learner(),
            LAYER,
            self.batches(),
            pick,
            label=self.label,
            attributes=self.attributes[:, columns],
            unit=torch.arange(512) if unit is None else unit,
            spare=torch.tensor(spare, dtype=torch.long),
        )


LAYER = PrunableLayer(1, "0", CHANNELS, ())


def learner() -> Learner:
    """Its one convolution hands every channel on as it is."""
    conv = nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.eye(CHANNELS)[:, :, None, None])
    return Learner(nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 2)), (LAYER,))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_only_what_goes_beyond_the_class_is_significant(seed: int) -> None:
    """Class and group go together: the lowest two show the class and the group, and only the group is evidence."""
    planted = Planted(seed)
    lowest = planted.scores(Pick(), [0])
    assert set(lowest.scores.argsort()[:2].tolist()) == {SHOWS_CLASS, SHOWS_GROUP}
    assert lowest.p is None
    within = planted.scores(Pick("significant", permutations=60), [0])
    assert torch.equal(within.scores, lowest.scores)
    assert within.p[SHOWS_GROUP] < 0.005 < 0.05 < within.p[SHOWS_CLASS]
    marginal = planted.scores(Pick("significant", null="marginal", permutations=60), [0])
    assert marginal.p[SHOWS_GROUP] < 0.005 > marginal.p[SHOWS_CLASS]


@pytest.mark.parametrize("many", [6, CHANNELS])
def test_it_does_not_matter_how_many_channels_show_the_group(many: int) -> None:
    planted = Planted(tied=0.5, shown=0.0)
    planted.image[:, :many] += 1.5 * planted.group[:, None, None, None]
    p = planted.scores(Pick("significant", permutations=60), [0]).p
    assert (p[:many] < 0.01).all() and (p[many:] > 0.01).all()


def test_a_labelling_moves_no_channel_of_noise() -> None:
    """Group counts in the batches move all scores of a labelling together: taken away, channels are uncorrelated."""
    planted = Planted(tied=0.5, shown=0.0)
    null = torch.stack(
        [planted.group[torch.randperm(512, generator=torch.Generator().manual_seed(s))] for s in range(60)]
    )
    scores = SNNL().score(learner(), LAYER, planted.batches(), group=null)
    moved = scores.T.corrcoef().triu(1).sum() / (CHANNELS * (CHANNELS - 1) / 2)
    still = (scores - SNNL().offset(null, [64] * 8)).T.corrcoef().triu(1).sum() / (CHANNELS * (CHANNELS - 1) / 2)
    assert moved > 0.5 and abs(still) < 0.15


def test_the_offset_of_a_labelling_is_the_score_of_a_constant_map() -> None:
    """methods.md, 11.5: -(4 ln(3/5) + 2 ln(1/5)) / 6 for groups of 4 and 2; a batch of one group is left out."""
    group = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1]])
    assert SNNL().offset(group, [6, 6])[:, 0].tolist() == pytest.approx([0.877030, 0.877030], abs=1e-6)


@dataclass(frozen=True)
class Shifted(Criterion):
    """Scores that are given, moved by something of each labelling."""

    plugin_name = "shifted"

    def score(self, learner: Any, layer: Any, batches: Any, *, group: Tensor | None = None) -> Tensor:
        assert group is not None and sum(len(batch.label) for batch in batches) == group.shape[1]
        return given(len(group)) + self.offset(group, [])

    def offset(self, group: Tensor, sizes: Any) -> Tensor:
        return 100 * (group * torch.arange(group.shape[1])).sum(1, keepdim=True).float().sin()


def given(count: int) -> Tensor:
    scores = torch.randn(count, CHANNELS, generator=torch.Generator().manual_seed(3))
    scores[0, 4] = -6
    return scores


def test_what_a_labelling_moves_all_channels_by_is_taken_away() -> None:
    planted, everyone = Planted(), torch.arange(512)
    found = score_channels(
        Shifted(), learner(), LAYER, planted.batches(), Pick("significant", permutations=50), label=planted.label,
        attributes=planted.attributes[:, :1], unit=everyone, spare=torch.tensor([], dtype=torch.long),
    )  # fmt: skip
    assert found.p is not None
    assert found.p.tolist() == pytest.approx(p_values(given(51)[0], given(51)[1:]).tolist(), abs=0.01)
    assert int(found.p.argmin()) == 4 and found.p[4] < 0.01


def test_labels_and_units_go_with_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lesion's name is the image's own on this data."""
    config = TrialConfig.from_dict(TRIAL | {"pick": "significant"})
    data = config.dataset.load()
    model, heard = build_learner(config, data, {}), {}

    def listen(criterion: Any, learner: Any, layer: Any, batches: Any, pick: Any, **given: Any) -> ChannelScores:
        heard.update(given, seen=list(batches))
        return ChannelScores(torch.zeros(64))

    monkeypatch.setattr(assembly, "score_channels", listen)
    assembly.layer_scores(config, data, torch.device("cpu"), model, find_layer(model.layers, -1))
    assert torch.equal(heard["label"], torch.cat([batch.label for batch in heard["seen"]]))
    assert torch.equal(heard["attributes"][:, 0], torch.cat([batch.group for batch in heard["seen"]]))
    images, train = torch.cat([batch.image for batch in heard["seen"]]), data.splits["train"].image.float() / 255
    assert all(torch.equal(train[unit], image) for unit, image in zip(heard["unit"], images, strict=True))
    assert heard["unit"].tolist() != sorted(heard["unit"].tolist())


def test_pruned_channels_are_not_tested_and_take_no_rank() -> None:
    p = Planted().scores(Pick("significant", permutations=20), [0], spare=(SHOWS_GROUP,)).p
    assert p[SHOWS_GROUP] == 1
    scores = Planted().scores(Pick(attributes=("group", "site")), [0, 1], spare=(3, 4)).scores
    assert scores.isnan().nonzero().flatten().tolist() == [3, 4]
    assert scores.nansum() == 10 * 11 / 2  # the mean of two rankings of ten


def test_images_of_a_lesion_are_permuted_as_one() -> None:
    """Eight copies of each picture of noise: as 512 single images some look like evidence, as 64 lesions none does."""
    low = {"singly": 0, "whole": 0}
    for seed in range(4, 8):
        planted = Planted(seed, tied=0.5, shown=0.0)
        order = torch.randperm(512, generator=torch.Generator().manual_seed(9))
        for part in ("label", "group", "image"):
            setattr(planted, part, getattr(planted, part)[::8].repeat_interleave(8, 0)[order])
        planted.attributes = planted.group[:, None]
        for how, unit in (("singly", torch.arange(512)), ("whole", (torch.arange(512) // 8)[order])):
            p = planted.scores(Pick("significant", permutations=40), [0], unit=unit).p
            low[how] += int((p < 0.01).sum())
    assert low["singly"] >= 5 and low["whole"] <= 1  # of 48, where 0.5 is expected


def test_several_attributes() -> None:
    """Ranked by group and by site. A channel that shows the site alone is first by one and anywhere by the other."""
    planted = Planted(tied=0.5)
    planted.image[:, 5] += 3.0 * planted.group[:, None, None] + 4.0 * planted.site[:, None, None]
    group, site = (planted.scores(Pick(attributes=(name,)), [at]).scores for at, name in enumerate(("group", "site")))
    ranks = torch.stack([scores.argsort().argsort() + 1 for scores in (group, site)]).float()
    for combine, expected in (("mean_rank", ranks.mean(0)), ("worst_rank", ranks.amax(0))):
        pick = Pick(attributes=("group", "site"), combine=combine)  # type: ignore[arg-type]
        assert torch.equal(planted.scores(pick, [0, 1]).scores, expected)
    worst = planted.scores(Pick(attributes=("group", "site"), combine="worst_rank"), [0, 1]).scores
    assert int(worst.argmin()) == 5
    both = planted.scores(Pick("significant", permutations=40, attributes=("group", "site")), [0, 1]).p
    assert set((both < 0.01).nonzero().flatten().tolist()) == {SHOWS_GROUP, SHOWS_SITE, 5}


# ---- the loop ----


def rounds_of(p: list[float], plan: dict[str, Any]) -> list[Any]:
    """Six channels with these p-values, scored 0 to 5; two are pruned a round."""
    torch.manual_seed(0)
    layer = PrunableLayer(1, "0", 6, ())
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    model, group = Learner(network, (layer,)), torch.arange(8) % 2
    batch = Batch(torch.rand(8, 3, 8, 8), torch.arange(8) // 4, group, group[:, None])
    base = Evaluation(batch.label, batch.attributes, torch.eye(2)[batch.label], batch.label)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    results = list(
        prune_rounds(
            model,
            layer,
            score=lambda *_: ChannelScores(torch.arange(6.0), torch.tensor(p, dtype=torch.float64)),
            train=lambda seed, epoch: [batch],
            val=[batch],
            plan=PrunePlan(2, 3, TrainPlan(epochs=1, batch_size=8), StopRule(), **plan),
            base=base,
        )
    )
    after = {key: value for key, value in model.state_dict().items() if "keep" not in key}
    return [results, all(torch.equal(value, after[key]) for key, value in before.items() if key in after)]


def test_only_significant_channels_go_and_the_loop_ends_where_none_is_left() -> None:
    """Benjamini-Hochberg at q = 0.05 of six: channels 1, 3 and 4 (0.001 <= 0.05 * 3 / 6). Two go, one, none."""
    results, _ = rounds_of([0.9, 0.001, 0.9, 0.001, 0.001, 0.9], {"level": 0.05})
    assert [result.channels for result in results] == [(1, 3), (4,), ()]
    assert [result.stopped for result in results] == [False, False, True]
    assert "no channel separates the groups beyond chance at q 0.05" in results[-1].stop_reason
    assert results[-1].last
    assert results[0].scores.p.tolist() == [0.9, 0.001, 0.9, 0.001, 0.001, 0.9]


def test_where_nothing_is_pruned_nothing_is_trained() -> None:
    results, untouched = rounds_of([0.9] * 6, {"level": 0.05})
    assert [result.channels for result in results] == [()]
    assert untouched


def test_without_a_level_p_values_do_not_count() -> None:
    results, _ = rounds_of([0.9] * 6, {})
    assert [result.channels for result in results] == [(0, 1), (2, 3)]


# ---- trials ----


def test_a_trial_prunes_what_is_significant() -> None:
    """At q = 0.9 something is; at a hopeless q nothing is, and the trial ends after one empty round."""
    loose, strict = (
        TrialConfig.from_dict(TRIAL | {"pick": {"rule": "significant", "q": q, "permutations": 20}})
        for q in (0.9, 1e-6)
    )
    kept = [event for event in run_trial(strict) if isinstance(event, Result)]
    assert [result.index for result in kept] == [0, 1]
    assert kept[1].round is not None and kept[1].round.channels == () and kept[1].round.stopped
    assert torch.equal(kept[1].val.logits, kept[0].val.logits)
    pruned = [event.round for event in run_trial(loose) if isinstance(event, Result) and event.round]
    assert pruned[0].scores.p is not None and 0 < pruned[0].scores.p.min() < 0.9


def test_only_what_counts_is_in_the_identity() -> None:
    def trial_id(**pick: Any) -> str:
        return resolve(TrialConfig.from_dict(TRIAL | ({"pick": pick} if pick else {}))).trial_id

    assert trial_id() == trial_id(rule="lowest", q=0.2, null="marginal", permutations=50)
    assert trial_id() == trial_id(attributes=["tone"]), "the primary attribute alone is the default"
    others = [
        *({"rule": "significant"}, {"rule": "significant", "q": 0.2}, {"rule": "significant", "null": "marginal"}),
        *({"rule": "significant", "permutations": 50},),
    ]
    assert len({trial_id(), *(trial_id(**other) for other in others)}) == 1 + len(others)


def test_attributes_are_found_by_name() -> None:
    assert Pick().positions(("sex", "age")) == [0]
    assert Pick(attributes=("age", "sex")).positions(("sex", "age")) == [1, 0]
    with pytest.raises(ConfigError, match=r"pick\.attributes: tone is no attribute of the data set; it has sex, age"):
        Pick(attributes=("tone",)).positions(("sex", "age"))
    with pytest.raises(ConfigError, match="name each of them once"):
        Pick(attributes=("age", "age"))


def test_first_scores_are_shared_by_arms_that_pick_alike() -> None:
    def name(**pick: Any) -> str:
        config = TrialConfig.from_dict(TRIAL | {"pick": pick})
        return scores_id(config, resolve(config).layer)

    assert name() == name(rule="lowest", q=0.3) != name(rule="significant") != name(rule="significant", q=0.3)


def test_attributes_go_with_their_images() -> None:
    """Scoring batches are a permutation of the table: codes left in the table's order would give other scores."""
    config = TrialConfig.from_dict(TRIAL)
    data = config.dataset.load()
    model = build_learner(config, data, {})
    layer = find_layer(model.layers, -1)
    by_name = replace(config, pick=Pick(attributes=("tone",)))
    plain, named = (layer_scores(each, data, torch.device("cpu"), model, layer).scores for each in (config, by_name))
    assert torch.equal(plain, named)


def test_a_round_interrupted_keeps_its_p_values() -> None:
    config = TrialConfig.from_dict(TRIAL | {"pick": {"rule": "significant", "q": 0.9, "permutations": 20}})
    events = list(run_trial(config))
    base = next(event for event in events if isinstance(event, Result))
    step = next(event for event in run_trial(config) if isinstance(event, Step) and event.round == 1)
    model = BaseModel(state_to_cpu(base.learner.state_dict()), base.val.report)
    resumed = next(event for event in run_trial(config, model, resume=step.snapshot()) if isinstance(event, Result))
    whole = next(event for event in events if isinstance(event, Result) and event.index == 1)
    assert resumed.round is not None and whole.round is not None
    assert torch.equal(resumed.round.scores.p, whole.round.scores.p)  # type: ignore[arg-type]
