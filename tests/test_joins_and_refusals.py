"""What may be asked of the base methods: more than two groups, two methods joined; and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from every_method import METHODS, PLAN, SMALL, UNSTRUCTURED, config, train

from scp_ray.config import TrialConfig, resolve
from scp_ray.errors import ConfigError
from scp_ray.loop.evaluate import evaluate
from scp_ray.methods.base import all_needs, methods
from scp_ray.parts import Batch, FairnessData, Learner, Split, TrainPlan, state_to_cpu
from scp_ray.trial import BaseModel, Result, run_trial


def three_groups() -> FairnessData:
    image = torch.zeros(12, 3, 64, 64, dtype=torch.uint8)
    split = Split(image, torch.arange(12) % 2, (torch.arange(12) % 3)[:, None], ("a",) * 12, ("a",) * 12)
    return FairnessData("clinic", ("x", "y"), ("tone",), 0, {"train": split, "val": split, "test": split})


@pytest.mark.parametrize("name", ["fairprune", "fair-adabn"])
def test_methods_for_two_groups_refuse_three_by_name(name: str) -> None:
    network = lambda outputs=2: config("vanilla").backbone.build(outputs, image_size=64, seed=0)  # noqa: E731
    with pytest.raises(ConfigError, match=rf"method: {name} compares two groups, and tone of clinic has 3"):
        methods.get(name)().build(network, three_groups(), {"vanilla": Learner(*network())})


@pytest.mark.parametrize("name", [name for name in METHODS if name not in (*UNSTRUCTURED, "fair-adabn")])
def test_other_methods_take_three_groups(name: str) -> None:
    data = three_groups()
    network = lambda outputs=2: config("vanilla").backbone.build(outputs, image_size=64, seed=0)  # noqa: E731
    made = config(name).method
    bases = {needed.plugin_name: Learner(*network()) for needed in made.needs}
    learner = made.build(network, data, bases).train()
    split = data.splits["train"]
    group = split.attributes[:, 0]
    batch = Batch(torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)), split.label, group,
                  group[:, None])  # fmt: skip
    learner.begin_epoch_(0, 1)
    recorded = learner.training_step_(batch, learner.optimizers(TrainPlan()), torch.Generator().manual_seed(0))
    assert bool(recorded["loss"].isfinite())
    assert evaluate(learner, [batch]).logits.shape == (12, 2)


def test_a_join_needs_a_second_that_only_prunes() -> None:
    with pytest.raises(ConfigError, match="method: hsic trains a model of its own"):
        config("vanilla", method=["me", "hsic"])
    with pytest.raises(ConfigError, match="allowed are two methods"):
        config("vanilla", method=["me"])
    for asked, name in (
        ({"name": "me-fairprune", "second": {"name": "fairprune", "pr": 0.2}}, "me-fairprune"),
        (["hsic", "fairprune"], "hsic-fairprune"),
        ([{"name": "mfd", "sigma": 1.0}, "obd"], "mfd-obd"),
    ):
        joined = config("vanilla", method=asked)
        assert joined.method.plugin_name == name
        assert TrialConfig.from_dict(json.loads(json.dumps(joined.as_dict()))) == joined
    for wrong in ([{"name": "me-fairprune"}, "obd"], ["me-fairprune", "obd"]):
        with pytest.raises(ConfigError, match="me-fairprune is two methods already"):
            config("vanilla", method=wrong)
    with pytest.raises(ConfigError, match="allowed is a name"):
        config("vanilla", method={"name": ["x"]})


def test_a_join_on_a_method_that_needs_another() -> None:
    """MFD needs vanilla, so what is put on it needs both, in that order."""
    asked = config("vanilla", method=["mfd", {"name": "obd", "samples": 16}], rounds=1)
    assert [needed.plugin_name for needed in all_needs(asked.method)] == ["vanilla", "mfd"]
    result, states, _ = train(asked)
    base = BaseModel(state_to_cpu(result.learner.state_dict()), result.val.report)
    last = [event for event in run_trial(asked, base, bases=states) if isinstance(event, Result)]
    assert "mmd" in last[-1].means, "fine-tuned with MFD's loss"


def test_a_base_model_is_trained_by_its_own_loss() -> None:
    with pytest.raises(ConfigError, match=r"train\.loss: got 'ce'"):
        config("mfd", train=PLAN | {"epochs": 1, "loss": "ce"})


@pytest.mark.parametrize("name", METHODS)
def test_plain_cross_entropy_is_another_trial_where_it_is_another_loss(name: str) -> None:
    """Equal numbers have one id: vanilla, and what is pruned of it, are fine-tuned by cross-entropy anyway."""
    own, plain = (resolve(config(name, fine_tune=PLAN | {"epochs": 1, "loss": loss})) for loss in ("native", "ce"))
    assert (own.trial_id == plain.trial_id) == (name in ("vanilla", "fairprune", "obd"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "fair-adabn", "backbone": "vgg11"}, "method: fair-adabn doubles the batch norms .* vgg11 has none"),
        (
            {"method": "me", "backbone": {"name": "torchvision", "model": "densenet121"}},
            "backbone torchvision densenet121 names none",
        ),
        ({"method": "me", "backbone": "resnet18"}, "those of resnet18 go down to 2 at 64 px"),
        ({"method": [{"name": "me", "tau": [1.0]}, "fairprune"]}, "got 1 weights; tiny has 5 exits"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(options: dict[str, Any], words: str) -> None:
    asked = {"dataset": SMALL, "backbone": "tiny", "pr_c": 0.1, "rounds": 1} | options
    with pytest.raises(ConfigError, match=words):
        resolve(TrialConfig.from_dict(asked))
