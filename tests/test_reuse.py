"""A worker runs one job after another: each finds it as the first one did."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from miniature import SPACE, TRIAL

from scp_ray.ledger import load_sweep
from scp_ray.tune import worker


@pytest.fixture
def untouched():
    """This process's own modes and streams, given back."""
    threads, streams = torch.get_num_threads(), (random.getstate(), np.random.get_state())  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    random.setstate(streams[0])
    np.random.set_state(streams[1])  # noqa: NPY002


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_what_a_job_changes_for_the_whole_process_is_put_back(untouched: None) -> None:
    worker.reset(1, "job")
    first = draws()
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    worker.reset(1, "job")
    assert torch.get_num_threads() == 1
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert draws() == first, "a job draws the same, whatever ran before it"
    worker.reset(1, "another")
    assert draws() != first


def test_what_holds_itself_is_let_go(untouched: None) -> None:
    """A model that its own hook refers to is not freed by counting references."""
    model = torch.nn.Linear(2, 2)
    model.register_forward_hook(partial(lambda itself, *_: itself, model))
    watched = weakref.ref(model)
    del model
    assert watched() is not None
    worker.reset(1, "job")
    assert watched() is None


@pytest.mark.ray
@pytest.mark.slow
def test_fifty_trials_leave_a_worker_as_large_as_five(tmp_path: Path) -> None:
    """One worker for all; a tiny model and its momentum are 2 MB, so that keeping them would show 90 MB."""
    whole_machine = os.cpu_count() or 1
    raw = SPACE | {
        "trial": TRIAL | {"rounds": 1, "fine_tune": TRIAL["fine_tune"] | {"epochs": 1}},
        "grid": {"fine_tune.lr": [round(0.001 + 1e-6 * index, 6) for index in range(50)]},
        "resources": {"cpus_per_trial": whole_machine, "threads_per_trial": 1, "device": "cpu"},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "scp_ray.cli.main", "sweep", str(tmp_path / "space.yaml"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=550)
    rounds = load_sweep(tmp_path / "miniature").rounds
    peaks = rounds[rounds["round"] == 1].sort_values("time")["peak_memory_mb"].to_numpy()
    assert len(peaks) == 50
    assert abs(np.median(peaks[45:]) - np.median(peaks[4:9])) < 10, peaks
