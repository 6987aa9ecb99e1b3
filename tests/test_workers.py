"""Which waiting job a free worker takes, with Tune itself: short trials, and workers that take long to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRIALS, WORKERS, START_S = 150, 2, 3.0  # of 50 ms each: the first worker is busy for twice as long

PROGRAM = """
import os, time
from pathlib import Path
import ray
from ray import tune
import scp_ray.tune
from scp_ray.tune.workers import Workers

class Short(tune.Trainable):
    def setup(self, config):
        time.sleep({start_s} if config["number"] else 0)
    def step(self):
        with open(Path({folder!r}) / str(os.getpid()), "a") as ran:
            ran.write(str(self.trial_id) + "\\n")
        time.sleep(0.05)
        return {{"done": True}}
    def reset_config(self, new_config):
        return True

ray.init(num_cpus={workers}, include_dashboard=False)
tuner = tune.Tuner(
    tune.with_resources(Short, {{"cpu": 1}}),
    param_space={{"number": tune.grid_search(list(range({trials})))}},
    tune_config=tune.TuneConfig(scheduler=Workers(None, None), reuse_actors=True),
    run_config=tune.RunConfig(
        storage_path={folder!r} + "-tune",
        verbose=0,
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    ),
)
results = tuner.fit()
assert not results.errors
"""


@pytest.mark.ray
def test_a_free_worker_leaves_those_that_start_alone(tmp_path: Path) -> None:
    """The first worker is free twenty times a second; the second, three seconds on its way, comes nevertheless."""
    folder = tmp_path / "workers"
    folder.mkdir()
    program = PROGRAM.format(folder=str(folder), trials=TRIALS, workers=WORKERS, start_s=START_S)
    environment = os.environ | {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, env=environment, cwd=tmp_path)
    ran = [path.read_text().split() for path in folder.iterdir()]
    assert len(ran) == WORKERS
    assert sum(len(trials) for trials in ran) == len({trial for trials in ran for trial in trials}) == TRIALS
