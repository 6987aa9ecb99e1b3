"""Scorers on a real Ray: the same bits however many there are, whoever dies and whoever is slow."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import ray
import torch
import yaml
from miniature import SPACE, TRIAL, same_ledgers
from planted_scoring import (
    Noted,
    OneHangs,
    OneIsBroken,
    Raises,
    Resting,
    Steady,
    SteadyWhole,
    Threads,
    ThreadsOfBackward,
    processes,
)
from ray.cluster_utils import Cluster
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor

from scp_ray.assembly import batches_of, build_learner
from scp_ray.backbones.layers import find_layer
from scp_ray.config import TrialConfig
from scp_ray.config.identity import resolve
from scp_ray.criteria.base import Criterion
from scp_ray.criteria.random import Random
from scp_ray.criteria.snnl import SNNL
from scp_ray.criteria.taylor import GapTaylor
from scp_ray.data.batches import FixedBatches
from scp_ray.errors import ResourceError, ScoreError
from scp_ray.ledger import Ledger
from scp_ray.loop.rounds import apply_channel_mask_
from scp_ray.parts import Batch, Learner, PrunableLayer
from scp_ray.tune import pool
from scp_ray.tune import scorers as module
from scp_ray.tune.pool import HERE
from scp_ray.tune.record import record_base, record_trial
from scp_ray.tune.scorer import block_scores
from scp_ray.tune.scorers import Scorers

pytestmark = pytest.mark.ray

CONFIG = TrialConfig.from_dict(TRIAL)
SIZE = 8  # 96 training images: 12 batches


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with 4 CPUs; tests add what they take away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # for the planted criteria
        head = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
        ray.init(address=head.address, log_to_driver=False)
        yield head
        ray.shutdown()
        head.shutdown()


class Scored(NamedTuple):
    """A model with the layer that is scored, part of it pruned already."""

    learner: Learner
    layer: PrunableLayer

    def batches(self, criterion: Criterion) -> FixedBatches:
        return batches_of(criterion, CONFIG.dataset.load().splits["train"])

    def locally(self, criterion: Criterion, group: Tensor | None = None) -> Tensor:
        return criterion.score(self.learner, self.layer, self.batches(criterion), group=group)

    def by(self, scorers: Scorers, criterion: Criterion, group: Tensor | None = None) -> Tensor:
        return scorers.score(criterion, self.learner, self.layer, self.batches(criterion), group=group)


@pytest.fixture(scope="module")
def model() -> Scored:
    learner = build_learner(CONFIG, CONFIG.dataset.load(), {})
    layer = find_layer(learner.layers, -1)
    apply_channel_mask_(learner, layer, [3, 5])
    return Scored(learner, layer)


def labellings(rows: int) -> Tensor:
    return torch.randint(2, (rows, 96), generator=torch.Generator().manual_seed(rows))


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_for(happened: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)


def ids(scorers: Scorers) -> set[int]:
    """Processes that have scored."""
    return {int(name.rpartition(":")[2]) for name in scorers.tally if name != HERE}


def both_ready(scorers: Scorers, model: Scored, folder: Path) -> None:
    """Score until both have, so that neither is late for what is to be tested."""
    folder.mkdir()
    while len(ids(scorers)) < 2:
        model.by(scorers, Steady(batch_size=SIZE, folder=str(folder)))
    scorers.tally.clear()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_scorers_gives_the_bits_of_one_process(cluster: Cluster, model: Scored, count: int) -> None:
    """Forward and backward passes, with the batches' groups, two attributes, and 20 labellings for significance.

    All samples as one batch are 12 batches of maps, then 4 blocks of 16 channels. A model that changes in between is
    sent anew; the processes stay.
    """
    scorers = Scorers(CONFIG, count)
    try:
        for criterion in (SNNL(batch_size=SIZE), GapTaylor(batch_size=SIZE)):
            for group in (None, labellings(2), labellings(21)):
                assert torch.equal(model.by(scorers, criterion, group), model.locally(criterion, group))
        whole, group = SNNL(batch_size=SIZE, scope="dataset"), labellings(21)
        for each in (None, group):
            assert torch.equal(model.by(scorers, whole, each), model.locally(whole, each))
        assert not torch.equal(model.locally(whole, group), model.locally(SNNL(batch_size=SIZE), group))
        first = ids(scorers)
        with torch.no_grad():
            model.learner.network.get_submodule(model.layer.name).parametrizations.weight.original.mul_(-1.5)  # type: ignore[operator,union-attr]
        apply_channel_mask_(model.learner, model.layer, [count + 6])
        assert torch.equal(model.by(scorers, SNNL(batch_size=SIZE)), model.locally(SNNL(batch_size=SIZE)))
        assert ids(scorers) <= first or len(first) < count
        assert 1 <= len(ids(scorers)) <= count and HERE not in scorers.tally
        assert sum(scorers.tally.values()) == 7 * 12 + 2 * (12 + 4), "each piece counts once"
        assert torch.equal(model.by(scorers, Random()), model.locally(Random())), "a draw needs no batch"
    finally:
        scorers.close()
    for process in ids(scorers):
        wait_for(lambda process=process: gone(process))


@ray.remote(num_cpus=1)
class Measured:
    """A process that scores a block of 13,000 samples and watches its own private memory meanwhile."""

    def private(self) -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("RssAnon:")).split()[1]) * 1024

    def score(self, parts: list[Any], group: Tensor) -> tuple[Any, int]:
        torch.set_num_threads(1)
        before, peak, done = self.private(), [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.01):
                peak[0] = max(peak[0], self.private())

        watcher = threading.Thread(target=watch)
        watcher.start()
        scores = block_scores(SNNL(scope="dataset"), parts, group, torch.device("cpu"))
        done.set()
        watcher.join()
        return scores, peak[0] - before


@pytest.mark.slow
def test_a_block_of_13000_samples_takes_less_than_a_gigabyte(cluster: Cluster) -> None:
    """16 channels of 8 x 8 pixels, in parts of 130 samples: 53 MB of maps, where all pairs are 1.4 GB a channel."""
    draw = torch.Generator().manual_seed(0)
    parts = [ray.put(torch.randn(130, 16, 64, generator=draw).numpy()) for _ in range(100)]
    actor = Measured.remote()
    scores, added = ray.get(actor.score.remote(parts, torch.arange(13_000)[None] % 2))
    assert scores.shape == (1, 16)
    assert 53e6 < added < 1e9
    ray.kill(actor)


def test_a_scorer_is_killed_and_its_batches_are_dealt_again(cluster: Cluster, model: Scored, tmp_path: Path) -> None:
    """kill -9 while it is at a batch, twice; another process takes its place and does part of the next scoring."""
    scorers, criterion = Scorers(CONFIG, 2), Steady(batch_size=SIZE, folder=str(tmp_path))
    killed: set[int] = set()

    def kill() -> None:
        for _ in range(2):
            wait_for(lambda: bool({*processes(tmp_path)} - killed))
            killed.add(process := max({*processes(tmp_path)} - killed))
            os.kill(process, signal.SIGKILL)

    try:
        killer = threading.Thread(target=kill)
        killer.start()
        scores = model.by(scorers, criterion)
        killer.join()
        assert torch.equal(scores, model.locally(SNNL(batch_size=SIZE)))
        wait_for(lambda: all(gone(process) for process in killed))
        assert sum(scorers.tally.values()) == 12 and len(processes(tmp_path)) >= 13, "a batch was begun once more"
        while len(ids(scorers) - killed) < 2:  # both places are taken again
            model.by(scorers, criterion)
    finally:
        scorers.close()


def test_without_any_scorer_left_the_trial_scores_itself(
    cluster: Cluster, model: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "REPLACEMENTS", 0)
    scorers, criterion = Scorers(CONFIG, 1), OneHangs(batch_size=SIZE, folder=str(tmp_path))
    killer = threading.Thread(
        target=lambda: (wait_for(lambda: bool(processes(tmp_path))), os.kill(processes(tmp_path)[0], signal.SIGKILL))
    )
    try:
        killer.start()
        scores = model.by(scorers, criterion)
        assert torch.equal(scores, model.locally(SNNL(batch_size=SIZE)))
        assert scorers.tally == {HERE: 12}
        assert "is lost" in caplog.text and "the trial's own process scores" in caplog.text
    finally:
        killer.join()
        scorers.close()


def test_a_slow_scorer_holds_nobody_back(cluster: Cluster, model: Scored, tmp_path: Path) -> None:
    """One of two never ends its first batch: the other scores all twelve, that one and the one behind it included."""
    scorers, criterion = Scorers(CONFIG, 2), OneHangs(batch_size=SIZE, folder=str(tmp_path))
    try:
        both_ready(scorers, model, tmp_path / "first")
        scores = model.by(scorers, criterion)
        slow = int(os.readlink(tmp_path / "slow"))
        assert torch.equal(scores, model.locally(SNNL(batch_size=SIZE)))
        assert len(ids(scorers)) == 1 and slow not in ids(scorers)
        assert sum(scorers.tally.values()) == 12
    finally:
        scorers.close()


def test_who_has_answered_while_nobody_looked_is_not_given_up(
    cluster: Cluster,
    model: Scored,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """This process stands still for an hour, in which both end all that they were given."""
    late = [0.0]
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late[0]))

    def progress(stage: str, done: int, total: int) -> None:
        if testing and not late[0]:
            time.sleep(2)  # two batches of 0.3 s each
            late[0] = 3600.0

    testing = False
    scorers = Scorers(CONFIG, 2, progress=progress)
    try:
        both_ready(scorers, model, tmp_path / "first")
        testing = True
        model.by(scorers, Steady(batch_size=SIZE, folder=str(tmp_path)))
        assert late[0] and len(ids(scorers)) == 2 and "is lost" not in caplog.text
    finally:
        scorers.close()


def test_a_scorer_in_broken_surroundings_is_replaced(
    cluster: Cluster, model: Scored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it raises says nothing of the trial, which goes on with another process."""
    scorers = Scorers(CONFIG, 1)
    try:
        for kind in ("mount", "cuda"):
            scores = model.by(scorers, OneIsBroken(batch_size=SIZE, folder=str(tmp_path), kind=kind))
            assert torch.equal(scores, model.locally(SNNL(batch_size=SIZE)))
        broken = {int(os.readlink(tmp_path / kind)) for kind in ("mount", "cuda")}
        assert len(broken) == 2 and ids(scorers) - broken and scorers.tally.total() == 24 and HERE not in scorers.tally
        assert "Stale file handle" in caplog.text and "CUDA error" in caplog.text
    finally:
        scorers.close()


@pytest.fixture
def taken(cluster: Cluster) -> Iterator[None]:
    """No CPU is left for a scorer."""
    group = placement_group([{"CPU": 4}])
    ray.get(group.ready())
    yield
    remove_placement_group(group)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_trial_on_a_gpu_stands_in_on_the_scorers_cpu(
    taken: None, model: Scored, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    """So its numbers are the scorers', and patience is lost once: no later stage waits for who has no place."""
    if device == "cpu":
        monkeypatch.setattr(module, "on_gpu", lambda learner: True)
    monkeypatch.setattr(pool, "PATIENCE_S", 2 * pool.POLL_S)
    used, told = list[Learner](), list[tuple[str, int]]()

    class Watched(SNNL):
        def part(self, learner: Learner, layer: PrunableLayer, batch: Batch, group: Tensor) -> Any:
            used.append(learner)
            return super().part(learner, layer, batch, group)

        def block_scores(self, maps: Tensor, group: Tensor) -> Tensor:
            assert maps.device.type == "cpu"
            return super().block_scores(maps, group)

    trial = model._replace(learner=copy.deepcopy(model.learner).to(device))
    scorers = Scorers(CONFIG, 2, progress=lambda stage, done, total: told.append((stage, done)))
    try:
        for scope in ("batch", "dataset"):
            options: dict[str, Any] = {"batch_size": SIZE, "scope": scope}
            assert torch.equal(trial.by(scorers, Watched(**options)), model.locally(SNNL(**options)))
        assert scorers.tally == {HERE: 12 + 12 + 4}
        assert len(used) == 12 and used[0] is used[-1] is not trial.learner
        assert next(used[0].parameters()).device.type == "cpu"
        assert {stage for stage, done in told if not done} == {"scoring"}
    finally:
        scorers.close()


def test_a_trial_without_a_gpu_waits_for_scorers_that_have_one(
    cluster: Cluster, model: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here none ever comes; when the last is lost, that is an error and no other number."""
    monkeypatch.setattr(pool, "PATIENCE_S", 0.0)
    monkeypatch.setattr(pool, "REPLACEMENTS", 0)
    waited: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        waited.append(done)
        if len(waited) == 3:
            (actor,) = scorers._pool._actors
            scorers._pool._lose(actor, "a test")

    scorers = Scorers(CONFIG, 1, gpus=1, progress=progress)
    with pytest.raises(ResourceError, match="no GPU to score on as they did"):
        model.by(scorers, SNNL(batch_size=SIZE))
    assert waited == [0, 0, 0] and not scorers.tally


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Steady, SteadyWhole])
def test_a_node_is_lost_while_it_scores(
    cluster: Cluster, model: Scored, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type[Criterion]
) -> None:
    """Three nodes; the head is taken, so the scorers are on the other two, of which one goes without notice.

    Maps of all samples that lay on it are made again: four channels of 32 images of the first layer are 131 kB, too
    large to be kept elsewhere.
    """
    options: dict[str, Any] = {"batch_size": SIZE}
    if kind is SteadyWhole:
        options = {"batch_size": 32, "scope": "dataset"}
    model, plain = model._replace(layer=model.learner.layers[0]), SNNL(**options)
    taken = placement_group([{"CPU": 4}])
    ray.get(taken.ready())
    nodes = [cluster.add_node(num_cpus=1, include_dashboard=False) for _ in range(2)]
    scorers, criterion = Scorers(CONFIG, 2), kind(folder=str(tmp_path), **options)  # type: ignore[call-arg]
    try:
        cluster.wait_for_nodes()
        both_ready(scorers, model, tmp_path / "first")

        def remove() -> None:
            wait_for(lambda: len({*processes(tmp_path)}) == 2)
            cluster.remove_node(nodes.pop(), allow_graceful=False)

        remover = threading.Thread(target=remove)
        remover.start()
        scores = [model.by(scorers, criterion) for _ in range(3)]
        remover.join()
        assert all(torch.equal(each, model.locally(plain)) for each in scores)
        assert len(nodes) == 1 and HERE not in scorers.tally and "is lost" in caplog.text
        assert ("are lost with their node, and made again" in caplog.text) == (kind is SteadyWhole)
    finally:
        scorers.close()
        remove_placement_group(taken)
        for node in nodes:
            cluster.remove_node(node)


def test_what_a_batch_raises_comes_through_as_itself(cluster: Cluster, model: Scored, tmp_path: Path) -> None:
    scorers = Scorers(CONFIG, 1)
    try:
        with pytest.raises(ScoreError, match=f"scored in {tmp_path.name}") as raised:
            model.by(scorers, Raises(batch_size=SIZE, folder=str(tmp_path)))
        assert type(raised.value) is ScoreError
        with pytest.raises(ScoreError, match="two groups"):
            model.by(scorers, SNNL(batch_size=SIZE), torch.zeros(1, 96, dtype=torch.long))
    finally:
        scorers.close()


def test_a_scorer_gives_its_gpus_cache_back_after_each_scoring(
    cluster: Cluster, model: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Scorer", Resting)
    scorers = Scorers(CONFIG, 1)
    try:
        model.by(scorers, Noted(batch_size=SIZE, folder=str(tmp_path)))
        (process,) = ids(scorers)
        wait_for((tmp_path / f"rested-{process}").exists)
    finally:
        scorers.close()


def test_a_backward_pass_takes_the_trials_threads(cluster: Cluster, model: Scored) -> None:
    """Its bits depend on them; those of a forward pass do not, and a scorer has one CPU. 96 images are one batch."""
    scorers = Scorers(CONFIG, 1, threads=3)
    try:
        assert [model.by(scorers, kind()).tolist() for kind in (Threads, ThreadsOfBackward, Threads)] == [[1], [3], [1]]
    finally:
        scorers.close()


@ray.remote(num_cpus=1)
class Trial:
    """Scores as a trial does: inside a placement group."""

    def score(self, folder: str) -> tuple[int, dict[str, int]]:
        data = CONFIG.dataset.load()
        learner = build_learner(CONFIG, data, {})
        criterion = Noted(batch_size=SIZE, folder=folder)
        self.scorers = Scorers(CONFIG, 3)
        batches = batches_of(criterion, data.splits["train"])
        scores = [self.scorers.score(criterion, learner, learner.layers[-1], batches) for _ in range(2)]
        assert torch.equal(scores[0], scores[1])
        return os.getpid(), dict(self.scorers.tally)


def test_scorers_take_the_trials_own_bundles_and_end_with_it(cluster: Cluster, tmp_path: Path) -> None:
    """All CPUs are the group's, so nothing else could hold them; the trial is killed -9 and they are gone."""
    group = placement_group([{"CPU": 1}] * 3)  # for two of the three scorers asked for
    rest = placement_group([{"CPU": 1}])
    ray.get([group.ready(), rest.ready()])
    place = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)
    process, _ = ray.get(Trial.options(scheduling_strategy=place).remote().score.remote(str(tmp_path)), timeout=120)
    scorers = {*processes(tmp_path)} - {process}
    assert 1 <= len(scorers) <= 2
    os.kill(process, signal.SIGKILL)
    for scorer in scorers:
        wait_for(lambda scorer=scorer: gone(scorer), 30)
    remove_placement_group(group)
    remove_placement_group(rest)


SPACE_OF_SCORERS: dict[str, Any] = SPACE | {
    "trial": TRIAL | {"criterion": {"name": "snnl", "batch_size": SIZE}, "pick": {"rule": "significant", "q": 0.9}}
}


def test_a_sweep_with_scorers_gives_the_ledger_of_one_without(cluster: Cluster, tmp_path: Path) -> None:
    trial = resolve(TrialConfig.from_dict(SPACE_OF_SCORERS["trial"]))
    ledger = Ledger(tmp_path / "alone")
    for config in trial.bases().values():
        record_base(config, ledger, device=torch.device("cpu"))
    list(record_trial(trial, ledger, device=torch.device("cpu")))
    space = tmp_path / "space.yaml"
    resources = SPACE["resources"] | {"scorers": 2, "gpus_per_scorer": 0}
    space.write_text(yaml.safe_dump(SPACE_OF_SCORERS | {"resources": resources}))
    command = [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(space), "--out", str(tmp_path)]
    subprocess.run([*command, "--address", cluster.address], check=True, capture_output=True, timeout=240)
    same_ledgers(ledger.root, tmp_path / "miniature")
