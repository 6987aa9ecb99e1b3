"""The benchmarks run and say what they measured; what it is has no place in a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
            "scores_dataset",
            ["--samples", "300", "--scored", "2", "--few", "200"],
            [{"ratio", "tiled_channel_s"}, {"channel_s", "forward_mb", "scoring_mb"}],
        ),
        ("data_memory", ["--megabytes", "20"], [{"added_mb", "opening_ms"}]),
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
