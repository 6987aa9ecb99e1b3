"""The benchmarks run and say what they measured; what it is has no place in a test."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "keys"),
    [
        ("data_reads", ["--count", "160"], [{"store_images_s", "files_images_s", "ratio"}] * 2),
        ("saliency", ["--samples", "4", "--few", "2", "--size", "32"], [{"peak_gb", "ratio", "image_ms"}]),
        ("data_build", ["--count", "100"], [{"build_images_s", "cores_decode_images_s", "ratio"}]),
        ("data_training", ["--steps", "1", "--batch", "4", "--size", "32"], [{"pipeline_images_s", "ratio"}]),
        (
            "scorers",
            ["--samples", "16", "--size", "32", "--batch", "4", "--repeats", "1"],
            [{"one_s", "two_s", "ratio"}],
        ),
        (
            "scores_dataset",
            ["--samples", "300", "--scored", "2", "--few", "200"],
            [{"ratio", "tiled_channel_s"}, {"channel_s", "forward_mb", "scoring_mb"}],
        ),
        ("evidence_rounds", ["--repeats", "1"], [{"table", "evidence_cpu_s"}] * 4),
        (
            "calibration_paired",
            ["coverage", "--runs", "4", "--tables", "isic", "--cases", "none", "--seeds", "3"],
            [{"truth", "coverage", "error_ratio"}] * 4,
        ),
        (
            "calibration_chosen",
            ["--runs", "2", "--tables", "isic", "--seeds", "3", "--rounds", "2"],
            [{"way", "better", "worse", "covered"}] * 3 + [{"floor_error", "largest"}],
        ),
        ("uncertainty", ["--repeats", "1", "--looped", "2"], [{"what", "cpu_s", "loop_s", "ratio"}] * 3),
        ("data_memory", ["--megabytes", "20"], [{"added_mb", "opening_ms"}]),
        ("scale", ["--sample", "200"], [{"trial_s"}, {"driver", "tracker"}] + [{"hours", "over_ideal", "ramp_s"}] * 2),
        ("trials", ["--trials", "12"], [{"command_s", "trials_s", "driver_kb_per_trial"}]),
        (
            "orchestration",
            ["--trials", "2", "--seconds", "0.5", "--starts", "1"],
            [{"elapsed_s", "ideal_s", "ratio"}, {"sweep_s", "bare_s", "ratio"}],
        ),
        ("snnl", ["--channels", "8", "--repeats", "1"], [{"ms", "loop_ms", "limit_ms", "ratio", "over_limit"}] * 6),
        (
            "scoring_pass",
            ["--samples", "8", "--batch", "4", "--size", "32", "--repeats", "1"],
            [{"scoring_s", "forward_s", "ratio", "calls_behind"}] * 2,
        ),
        (
            "evaluation",
            ["--images", "250", "--size", "32", "--repeats", "1"],
            [{"evaluation_s", "forward_s", "ratio", "evidence_s"}],
        ),
        (
            "grid",
            ["--seconds", "0.2", "--layers", "2", "--ratios", "1"],
            [{"elapsed_s", "fits_s", "ratio", "bases", "first_scores", "base_layers"}],
        ),
        (
            "trial_memory",
            ["--batch", "8", "--size", "32", "--repeats", "1"],
            [{"trial_mb", "loop_mb", "images_mb", "ratio"}],
        ),
        ("starts", ["--trials", "10", "--repeats", "1"], [{"import_s"}, {"ls_s"}, {"load_s"}]),
        (
            "growth",
            ["--kinds", "ledger,report", "--most", "30", "--repeats", "1"],
            [{"x", "y", "exponent", "size", "quantity"}] * 4,
        ),
        (
            "tracker_faults",
            ["--repeats", "1", "--epochs", "1", "--modes", "file,killed"],
            [{"mode", "ratio", "off_s"}] * 2,
        ),
    ],
)
def test_a_benchmark_tells_its_numbers(shared: Path, name: str, options: list[str], keys: list[set[str]]) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    if name in ("data_reads", "data_build"):
        command += ["--pictures", str(shared / "data" / "isic2019_mini" / "images")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(told) == len(keys)
    for line, expected in zip(told, keys, strict=True):
        assert expected <= set(line)
        assert line.get("ratio", 1) > 0


COSTS = {"plan_s": 1.0, "worker_s": 10.0, "trial_s": 2.0, "result_s": 0.5, "track_trial_s": 3.0, "track_round_s": 1.0}


@pytest.mark.parametrize(("pending", "ramp_s"), [(1, 40.0), (2, 20.0), (4, 10.0)])
def test_the_simulation_adds_up_as_by_hand(pending: int, ramp_s: float) -> None:
    """One GPU: 3 x 1 to plan, 10 for its worker, 60 for the base model, 4 x 2 for jobs, 7 x 0.5 for results: 84.5 s.

    The tracker: 4 runs at 3 and 7 rounds at 1. On 5 GPUs the base model's has its worker; 4 more come in turns.
    """
    from benchmarks.scale import simulate

    costs: Any = argparse.Namespace(**COSTS)
    asked = {"rounds": 2, "bases": 1, "base_minutes": 1.0, "round_minutes": 0.0, "seed": 0, "pending": pending}
    alone = simulate(argparse.Namespace(**asked, gpus=1, trials=3), costs)
    assert alone.hours * 3600 == pytest.approx(84.5)
    assert alone.tracker_busy == pytest.approx(19 / 84.5)
    free: Any = argparse.Namespace(**(COSTS | {"trial_s": 0.0, "result_s": 0.0}))
    minutes = argparse.Namespace(**(asked | {"round_minutes": 600.0}), gpus=5, trials=5)
    assert simulate(minutes, free).ramp_s == pytest.approx(ramp_s)


def line_of(what: str, **numbers: float) -> dict[str, Any]:
    return {"what": what, "device": "an abacus", "torch": "2.0", **numbers}


def test_the_page_holds_what_was_measured_and_says_what_was_not(tmp_path: Path) -> None:
    """Of a CPU with three figures, one of them beyond its goal; no GPU."""
    from benchmarks.page import write_page

    marks = [f"<!-- {name}: generated by python -m benchmarks.room -->\n<!-- end of {name} -->" for name in
             ("cpu", "gpu", "growth")]  # fmt: skip
    page = tmp_path / "performance.md"
    page.write_text("\n".join(["before", *marks, "after"]))
    lines = [line_of("start_import", import_s=0.1), line_of("start_ls", ls_s=0.75)]
    lines += [line_of("growth_ledger", size="trials", quantity="CPU seconds", x=[10, 100], y=[1, 10], exponent=1.0)]  # type: ignore[arg-type]
    machine = {"machine": "an abacus", "gpu": False, "figures": {"starts": {"date": "2026-01-02", "lines": lines}}}
    for _ in range(2):  # a second time over the first
        write_page([machine], page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "an abacus; torch 2.0; 2026-01-02." in text
    assert text.count("| 0.10 s | at most 0.2 s | reached |") == 1
    assert text.count("| 0.75 s | at most 0.5 s | **missed** |") == 1
    assert text.count("| ledger: CPU seconds | trials | 10, 100 | 1.00 | 1 |") == 1
    from benchmarks.rows import CPU, GPU

    assert text.count("| not measured |") == len(CPU) - 2 + len(GPU)
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has lost its mark"):
        write_page([machine], page)


def test_an_exponent_is_that_of_the_power_law() -> None:
    from benchmarks.growth import Curve

    sizes = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert Curve("made up", "size", "seconds", sizes, [3 * size**2 for size in sizes]).exponent == pytest.approx(2)
    assert Curve("made up", "size", "MB", sizes, [5.0] * 5).exponent == pytest.approx(0)
