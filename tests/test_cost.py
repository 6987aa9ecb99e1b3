"""What a plan will take: the arithmetic by hand, history, the mini-round, and the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from asking import MINIATURE, ask

from scp_ray.config import SweepConfig, read_space
from scp_ray.ledger import Ledger
from scp_ray.tune import cost as costs
from scp_ray.tune.calibrate import Counts, Task, calibrate
from scp_ray.tune.cost import NOTHING, Range, Rates, Slots, Work, cost_of, job_seconds, makespan, searched
from scp_ray.tune.disk import disk_of
from scp_ray.tune.forecast import forecast, slots_on
from scp_ray.tune.outlook import outlook
from scp_ray.tune.placement import Node
from scp_ray.tune.rates import history_of

RATES = Rates(Range(2, 3), Range(1, 2), Range(0.5, 1), Range(0.25, 0.5))


@pytest.fixture
def no_overhead(monkeypatch):
    """Only what is computed from the rates."""
    for name in ("START_S", "JOB_S", "ROUND_S"):
        monkeypatch.setattr(costs, name, (0.0, 0.0))


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


def read(path: Path, *overrides: str) -> SweepConfig:
    return SweepConfig.from_dict(read_space(str(path), profile=None, overrides=list(overrides)))


# -- arithmetic -------------------------------------------------------------------------------------------------------


def test_seconds_of_a_base_and_of_rounds(miniature, no_overhead):
    space = read(miniature, "trial.train.epochs=10", "trial.fine_tune.epochs=4")
    config = space.resolved_arms()[0].trials[0].config
    assert job_seconds(config, RATES, rounds=None) == pytest.approx((10 * 2 + 0.25, 10 * 3 + 0.5))
    assert job_seconds(config, RATES, rounds=3) == pytest.approx((3 * (4 + 0.5 + 0.25), 3 * (8 + 1 + 0.5)))


def test_a_method_that_only_finishes_trains_no_epochs(miniature, no_overhead):
    config = read(miniature, "trial.method=fairprune").resolved_arms()[0].trials[0].config
    rates = Rates(Range(2, 3), Range(1, 2), NOTHING, Range(0.25, 0.5), Range(7, 9))
    assert job_seconds(config, rates, rounds=None) == pytest.approx((7.25, 9.5))


def test_hours_are_what_the_jobs_hold_while_they_run(no_overhead):
    works = [Work("base", Range(1800, 3600), gpus=1, cpus=4), Work("a", Range(3600, 7200), ("base",), gpus=1.5, cpus=6)]
    found = cost_of(works, works, Slots(2, 1))
    assert found.gpu_hours == pytest.approx((0.5 + 1.5, 1 + 3))
    assert found.cpu_hours == pytest.approx((2 + 6, 4 + 12))
    assert found.wall_s == pytest.approx((5400, 10800))  # one after the other


@pytest.mark.parametrize(
    ("works", "slots", "expected"),
    [
        ([("a", 3, ()), ("b", 2, ()), ("c", 2, ())], (2, 2), 4),  # c after b
        ([("a", 3, ()), ("b", 2, ()), ("c", 2, ())], (1, 1), 7),
        ([("a", 3, ()), ("b", 2, ()), ("c", 2, ())], (9, 9), 3),
        # a trial waits for its base, and another one's base is trained meanwhile
        ([("p", 4, ()), ("q", 1, ()), ("x", 2, ("p",)), ("y", 2, ("q",))], (2, 2), 6),
        ([("p", 4, ()), ("q", 1, ()), ("x", 2, ("p",)), ("y", 9, ("q",))], (2, 2), 10),
        ([("x", 2, ("done before",))], (1, 1), 2),
        ([("p", 4, ()), ("q", 1, ()), ("x", 2, ("p", "q"))], (2, 2), 6),
        # trials hold scorers too, so one of them at a time, beside which a base has room
        ([("p", 1, ()), ("x", 3, ("p",)), ("y", 3, ("p",)), ("q", 2, ()), ("z", 1, ("q",))], (2, 1), 8),
        ([("a", 3, ())], (1, 0), float("inf")),
        ([], (1, 1), 0),
    ],
)
def test_makespan(works, slots, expected):
    assert makespan(works, Slots(*slots)) == expected


def test_a_search_takes_its_fewest_seeds_at_least_and_all_at_most(no_overhead):
    kinds = [Work("a", Range(1, 2), ("base",)), Work("b", Range(3, 4), ("base",))]
    bases = [Work("base", Range(10, 20))]
    least, most = searched(bases, kinds, 3, 1), searched(bases, kinds, 3, 2)
    assert cost_of(least, most, Slots(1, 1)).wall_s == (10 + 1 + 3 + 1, 20 + 2 * (2 + 4 + 2))
    assert cost_of(least, most, Slots(1, 1)).cpu_hours == pytest.approx((15 / 3600, 36 / 3600))


@pytest.mark.parametrize(
    ("nodes", "bundles", "expected"),
    [
        ([(8, 2)], [{"CPU": 4.0, "GPU": 1.0}], 2),
        ([(8, 4)], [{"CPU": 4.0, "GPU": 1.0}], 2),
        ([(8, 1), (8, 1)], [{"CPU": 2.0, "GPU": 0.5}], 4),
        ([(8, 0)], [{"CPU": 2.0, "GPU": 0.0}, {"CPU": 1.0, "GPU": 0.0}], 2),
        ([(2, 0)], [{"CPU": 4.0, "GPU": 0.0}], 0),
    ],
)
def test_slots(nodes, bundles, expected):
    assert slots_on([Node(str(at), *each) for at, each in enumerate(nodes)], bundles) == expected


# -- measured, and seen before ----------------------------------------------------------------------------------------


def test_a_mini_round_measures_every_part(miniature):
    space = read(miniature, "trial.method=fairprune", "trial.fine_tune.augment=none")
    config = space.resolved_arms()[0].trials[0].config
    tasks = [Task(config, Counts(64, 48, 40)), Task(config, Counts(640, 480, 400))]
    small, large = calibrate(tasks, device="cpu", given_gpu=False, threads=1, limit_s=60)
    for name in ("train", "fine_tune", "score", "evaluate", "finish"):
        one, ten = getattr(small, name), getattr(large, name)
        assert 0 < one.low <= one.high
        assert ten.high > one.low  # ten times the images


def test_a_mini_round_ends_with_its_time(miniature):
    config = read(miniature).resolved_arms()[0].trials[0].config
    found = calibrate([Task(config, Counts(64, 48, 40))], device="cpu", given_gpu=False, threads=1, limit_s=-1)
    assert found == ["not measured within -1 s"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of one arm and one seed that is done."""
    folder = tmp_path_factory.mktemp("cost")
    (folder / "miniature.yaml").write_text(MINIATURE)
    out = ("--out", folder / "results")
    assert ask("trial", folder / "miniature.yaml", *out, "--set", "grid.pr_c=[0.05]").code == 0
    return folder


def test_history_is_what_the_ledger_holds(swept):
    root = swept / "results" / "miniature"
    config = read(swept / "miniature.yaml", "grid.pr_c=[0.05]").resolved_arms()[0].trials[0].config
    rows = Ledger(root).rounds(next((root / "rounds").iterdir()).stem)
    base = Ledger(root).base_row(rows[0]["base_id"])
    history = history_of(root)
    rates = history.rates(config, "cpu", 1)
    assert rates is not None
    assert history_of(root.parent / "another").rates(config, "cpu", 1) == rates  # a neighbour's
    assert history_of(root).rates(config, "cuda", 1) is None
    assert history_of(root).rates(config, "cpu", 2) is None
    # one round of one epoch, and a base of one epoch with the same batches: means of the two, or the one
    fit = (base["seconds_fit"] + rows[1]["seconds_fit"]) / 2
    assert rates.train.low < fit < rates.train.high
    assert rates.score.low < rows[1]["seconds_score"] < rates.score.high
    looked = (base["seconds_evaluate"] + rows[1]["seconds_evaluate"] + rows[1]["seconds_test"]) / 2
    assert rates.evaluate.low < looked < rates.evaluate.high
    ((told,),) = history.seeds.values()
    moved = rows[1]["val_eodd"] - base["val_eodd"] if rows[1]["val_fate_eodd_base"] > 0 else 0
    assert told["difference"].tolist() == [moved]
    assert history.seed_sd(config) is None  # of one seed


def test_work_done_before_is_not_measured_again(swept, monkeypatch):
    def measure(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured")

    monkeypatch.setattr("scp_ray.tune.forecast.calibrate", measure)
    config = read(swept / "miniature.yaml")
    root = swept / "results" / "miniature"
    ahead = outlook(config, Ledger(root))
    assert len(ahead.jobs) == 1  # the other ratio, on the base that is there
    found = forecast(config, ahead, root)
    assert found.sources == ["1 of 1 kinds of work have been done in an earlier sweep"]
    assert 0 < found.cost.cpu_hours.low < found.cost.cpu_hours.high
    assert found.cost.gpu_hours == (0, 0)


def test_a_finished_sweep_costs_nothing(swept):
    answer = ask(
        *("sweep", swept / "miniature.yaml", "--out", swept / "results", "--set", "grid.pr_c=[0.05]"),
        *("--dry-run", "--json"),
    )
    assert answer.code == 0
    assert answer.json["estimate"]["wall_seconds"] == [0, 0]
    assert answer.json["estimate"]["disk_bytes"]["total"] == [0, 0]


# -- the command ------------------------------------------------------------------------------------------------------


def test_a_dry_run_tells_cost_and_power_and_leaves_nothing(miniature, tmp_path):
    answer = ask("sweep", miniature, "--out", tmp_path / "results", "--dry-run", "--json", "--set", "seeds=[0, 1]")
    assert answer.code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["miniature.yaml"]
    estimate = answer.json["estimate"]
    assert estimate["gpu_hours"] == [0, 0]
    low, high = estimate["wall_seconds"]
    assert 0 < low < high < 600
    assert estimate["disk_bytes"]["total"][0] > 0
    assert estimate["sources"] == ["1 of 1 measured by a mini-round on cpu, with noise as images"]
    assert "GPU-hours: 0; CPU-hours: " in answer.err
    (detectable,) = answer.json["detectable"]
    assert 0 < detectable["eodd"][0] <= detectable["eodd"][1]
    assert detectable["seed_sd"] == 0.01
    assert "smallest difference found with 80 % power on synthetic's test table: Eodd " in answer.err
    assert "no earlier sweep tells" in answer.err


def test_more_gpu_hours_than_allowed_are_refused_before_anything_starts(miniature, tmp_path, monkeypatch):
    """Two hours of a base and two trials on one GPU each, where one is allowed."""
    rates = Rates(Range(3600, 7200), Range(0, 0), NOTHING, NOTHING)
    monkeypatch.setattr("scp_ray.tune.forecast.node_here", lambda: Node("here", 4, 1))
    monkeypatch.setattr("scp_ray.tune.forecast.calibrate", lambda tasks, **_: [rates] * len(tasks))
    asked = ("sweep", miniature, "--out", tmp_path / "results", "--set", "resources.device=auto")
    answer = ask(*asked, "--max-gpu-hours", "1.5")
    assert answer.code == 2
    assert "--max-gpu-hours: this plan is estimated at 1 to 2 GPU-hours, and 1.5 are allowed" in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["miniature.yaml"]
    assert ask(*asked, "--max-gpu-hours", "2.1", "--dry-run").code == 0
    assert ask(*asked, "--max-gpu-hours", "2.1", "--dry-run", "--json").json["estimate"]["gpu_hours"][0] < 1.01


@pytest.mark.parametrize("hours", ["0", "-1", "many", "nan"])
def test_a_limit_is_a_number_above_0(miniature, tmp_path, hours):
    answer = ask("sweep", miniature, "--out", tmp_path / "results", f"--max-gpu-hours={hours}")
    assert answer.code == 2
    assert f"argument --max-gpu-hours: got {hours!r}; allowed is a number > 0" in answer.err


def test_disk_is_what_a_sweep_leaves(swept):
    """Estimated for the very trial that is there, as if it were not."""
    config = read(swept / "miniature.yaml", "grid.pr_c=[0.05]")
    disk = disk_of(outlook(config, Ledger(swept / "elsewhere" / "none")))
    root = swept / "results" / "miniature"

    def left(*names: str) -> int:
        files = [path for name in names for path in root.rglob(name) if path.is_file()]
        assert files
        return sum(path.stat().st_size for path in files)

    assert disk.weights.low < left("*.safetensors", "state/*/*") < disk.weights.high
    assert disk.predictions.low < left("predictions*", "predictions/*") < 20 * disk.predictions.high
