"""What fits where, worked out by hand."""

from __future__ import annotations

import argparse

import pytest

from scp_ray.cli.spaces import seconds_of
from scp_ray.config import Resources
from scp_ray.config.space import NodeType
from scp_ray.tune.placement import Node, fits, head_only, nearest_request, trial_bundles
from scp_ray.tune.versions import differing


def nodes(*shapes: tuple[float, float]) -> list[Node]:
    """(CPUs, GPUs) of each."""
    return [Node(f"n{at}", cpus, gpus) for at, (cpus, gpus) in enumerate(shapes)]


def group(cpus: int, gpus: float, scorers: int = 0, share: float = 0.0) -> list[dict[str, float]]:
    wanted = Resources(gpus_per_trial=gpus, cpus_per_trial=cpus, scorers=scorers, gpus_per_scorer=share)
    return trial_bundles(wanted, [])


def test_the_bundles_are_the_trial_and_then_its_scorers():
    assert group(4, 1, scorers=2, share=0.5) == [
        {"CPU": 4.0, "GPU": 1.0},
        {"CPU": 1.0, "GPU": 0.5},
        {"CPU": 1.0, "GPU": 0.5},
    ]
    assert head_only(group(4, 1, scorers=2, share=0.5)) == [{"CPU": 4.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("device", "shapes", "gpus"),
    [("auto", [(8, 0), (8, 2)], 1.0), ("auto", [(8, 0)], 0.0), ("cpu", [(8, 2)], 0.0), ("auto", [], 0.0)],
)
def test_auto_is_one_gpu_where_a_node_has_any(device, shapes, gpus):
    assert trial_bundles(Resources(device=device), nodes(*shapes))[0]["GPU"] == gpus


@pytest.mark.parametrize(
    ("bundles", "shapes", "expected"),
    [
        # 1 + 4 GPUs: every bundle fits a node of 2, the group needs 5
        (group(1, 1, 4, 1), [(8, 2), (8, 2)], False),
        (group(1, 1, 4, 1), [(8, 2), (8, 3)], True),
        (group(1, 1, 3, 1), [(8, 2), (8, 2)], True),
        # the trial's own bundle lies on one node
        (group(4, 0), [(3, 0), (3, 0)], False),
        (group(4, 2), [(4, 1), (4, 1)], False),
        # CPUs: 4 for the trial, 1 each for 4 scorers, over 4 + 3 and 4 + 4
        (group(4, 0, 4), [(4, 0), (3, 0)], False),
        (group(4, 0, 4), [(4, 0), (4, 0)], True),
        # the trial has to go to the second node, or the scorers find no GPU beside 4 CPUs taken
        (group(4, 0, 2, 0.5), [(4, 1), (4, 0)], True),
        (group(4, 0, 2, 0.5), [(4, 1)], False),
        # a share lies on one device: 0.6 twice on two devices, not three times on 2.0 in all
        (group(1, 0.6, 1, 0.6), [(8, 2)], True),
        (group(1, 0.6, 2, 0.6), [(8, 2)], False),
        (group(1, 0.5, 1, 0.5), [(8, 1)], True),
        (group(1, 0.7, 3, 0.1), [(8, 1)], True),
        (group(1, 0.7, 4, 0.1), [(8, 1)], False),
        (group(1, 0.5, 1, 1), [(8, 2)], True),
        (group(1, 1, 2, 0.5), [(8, 2)], True),
        (group(1, 2, 1, 0.5), [(8, 2)], False),
        # one 0.6 could go to the small node, but Ray sends all to the larger one, which keeps more free
        (group(1, 0.5, 2, 0.6), [(8, 2), (8, 1)], False),
        # thirds, in Ray's ten-thousandths
        (group(1, 0, 3, 1 / 3), [(8, 1)], True),
        (group(1, 0, 4, 1 / 3), [(8, 1)], False),
        (group(1, 0, 10, 0.1), [(11, 1)], True),
        (group(1, 0, 10, 0.1), [(10, 1)], False),
        (group(1, 0), [], False),
    ],
)
def test_a_group_is_packed_whole(bundles, shapes, expected):
    assert fits(bundles, nodes(*shapes)) is expected
    assert fits(bundles, nodes(*reversed(shapes))) is expected


@pytest.mark.parametrize(
    ("bundles", "shapes", "settings"),
    [
        (group(1, 1, 4, 1), [(8, 2), (8, 2)], {"scorers": 3}),
        (group(1, 1, 4, 1), [(8, 1)], {"scorers": 0}),
        (group(4, 0, 8), [(4, 0), (6, 0)], {"scorers": 6}),
        (group(1, 64), [(2, 0)], {"cpus_per_trial": 1, "gpus_per_trial": 0}),
        (group(16, 1), [(4, 1), (64, 0)], {"cpus_per_trial": 4, "gpus_per_trial": 1}),
        (group(1, 0.5), [(4, 0)], {"cpus_per_trial": 1, "gpus_per_trial": 0}),
        (group(8, 2, 2, 1), [(4, 2)], {"cpus_per_trial": 4, "gpus_per_trial": 2, "scorers": 0}),
        (group(1, 0, 2, 1), [(4, 0)], {"gpus_per_scorer": 0}),
        (group(1, 0, 4, 1), [(4, 0)], {"gpus_per_scorer": 0, "scorers": 3}),
        (group(1, 0), [(0, 1)], {}),
    ],
)
def test_the_nearest_request_that_fits(bundles, shapes, settings):
    found = nearest_request(bundles, nodes(*shapes))
    assert found == {f"resources.{name}": value for name, value in settings.items()}


def test_the_nearest_request_can_be_asked_for():
    """What it names is a Resources, and fits."""
    there = nodes((3.5, 1), (2, 0))
    asked = {"cpus_per_trial": 8, "gpus_per_trial": 2.0, "scorers": 9, "gpus_per_scorer": 0.0}
    found = nearest_request(trial_bundles(Resources(**asked), there), there)
    settings = {key.removeprefix("resources."): value for key, value in found.items()}
    assert all(value == int(value) for value in settings.values())
    asked |= {key: int(value) if key != "gpus_per_trial" else value for key, value in settings.items()}
    assert asked == {"cpus_per_trial": 3, "gpus_per_trial": 1.0, "scorers": 2, "gpus_per_scorer": 0.0}
    assert fits(trial_bundles(Resources(**asked), there), there)


def test_a_space_names_scorers_and_node_types(read):
    from scp_ray.config.parse import read_fields

    faults: list[str] = []
    raw = {"scorers": 2, "gpus_per_scorer": 0.25, "node_types": [{"cpus": 4, "gpus": 1, "max": 8}]}
    found = read_fields(Resources, raw, "resources", faults)
    assert found == Resources(scorers=2, gpus_per_scorer=0.25, node_types=[NodeType(cpus=4, gpus=1, max=8)])
    assert faults == []


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"scorers": -1}, ["resources.scorers: got -1", ">= 0"]),
        ({"gpus_per_scorer": 1.5}, ["resources.gpus_per_scorer: got 1.5", "above 1 only whole numbers"]),
        ({"gpus_per_scorer": -0.5}, ["resources.gpus_per_scorer: got -0.5"]),
        ({"gpus_per_scorer": "auto"}, ["resources.gpus_per_scorer: got 'auto'"]),
        ({"node_types": [{"cpu": 4, "max": 1}]}, ["resources.node_types[0].cpu: unknown key", "cpus"]),
        ({"node_types": [{"cpus": 4, "max": 0}]}, ["resources.node_types[0].max: got 0", ">= 1"]),
        ({"node_types": 3}, ["resources.node_types: got 3", "a list, each a mapping of cpus, max, gpus, name"]),
    ],
)
def test_wrong_resources_are_named(raw, words):
    from scp_ray.config.parse import read_fields

    faults: list[str] = []
    assert read_fields(Resources, raw, "resources", faults) is None
    assert all(word in faults[0] for word in words), faults


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), ("0s", 0)])
def test_wait_takes_a_number_with_its_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["90", "m", "-5m", "5 m", "1d", "", "1e9s"])
def test_wait_refuses_anything_else(text):
    with pytest.raises(argparse.ArgumentTypeError, match="90s, 15m or 2h"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, ""),
        ({"Python": "3.11.2"}, ""),
        ({"torch": "2.0.0"}, ""),
        ({"Python": "3.12.9"}, "Python is 3.12.9 there and 3.11.9 on the driver"),
        ({"Ray": "2.59.0"}, "Ray is 2.59.0 there"),
        ({"scp_ray": "0.0.9"}, "scp_ray is 0.0.9 there"),
    ],
)
def test_versions_that_cannot_work_together(change, named):
    driver = {"Python": "3.11.9", "Ray": "2.60.0", "scp_ray": "0.1.0", "torch": "2.15.0"}
    found = differing(driver | change, driver)
    assert len(found) == bool(named)
    assert all(fault.startswith(named) for fault in found)
