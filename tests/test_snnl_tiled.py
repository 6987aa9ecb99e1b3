"""All samples as one batch, tile by tile: against Eq. 1 over the whole matrix of pairs, in numpy."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scp_ray.errors import ScoreError
from scp_ray.maths import snnl_tiled
from scp_ray.maths.snnl import snnl_scores
from scp_ray.maths.snnl_tiled import snnl_scores_tiled

RELEASED: dict[str, Any] = {"distance": "cosine", "temperature": 1.0, "self_pair": "numerator_only"}
BLOCKED, ALTERNATING = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 7: a few samples need many of them, and the last is uneven. Rows taken again come 3 at a time."""
    monkeypatch.setattr(snnl_tiled, "TILE", 7)
    monkeypatch.setattr(snnl_tiled, "_EXPONENTS", 150)


pytestmark = pytest.mark.usefixtures("small_tiles")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def groups_of(count: int, share: float = 0.3, *, seed: int = 0, kinds: int = 2) -> torch.Tensor:
    drawn = np.random.default_rng(100 + seed).random(count)
    return torch.from_numpy(np.where(drawn < share, 1 + (np.arange(count) % (kinds - 1)), 0))


def brute_force(
    features: torch.Tensor,
    groups: torch.Tensor,
    *,
    distance: str = "sqeuclidean",
    temperature: float | str = "auto",
    self_pair: str = "exclude",
) -> list[float]:
    """Eq. 1 from all N x N differences m_i - m_j in float64; each row relative to its largest exponent."""
    maps, codes, scores = features.double().numpy().reshape(*features.shape[:2], -1), groups.numpy(), []
    count = len(maps)
    same, off = codes[:, None] == codes[None, :], ~np.eye(count, dtype=bool)
    for rows in maps.transpose(1, 0, 2):
        length = np.sqrt((rows**2).sum(1))
        unit = rows / np.where(length > 0, length, 1)[:, None] if distance == "cosine" else rows
        far = ((unit[:, None] - unit[None, :]) ** 2).sum(2)
        if distance == "cosine":  # 1 - cos; an all-zero map has cosine 0 with everything
            far = np.where((length == 0)[:, None] | (length == 0)[None, :], 1.0, far / 2)
        t = float(far[off].mean()) if temperature == "auto" else float(temperature)
        exponents = -far / (t or 1.0)
        if self_pair == "numerator_only":
            itself = np.logaddexp(np.diag(exponents), math.log(1e-9))
            terms = log_sums(exponents, off) - np.logaddexp(log_sums(exponents, off & same), itself)
        else:
            paired = (off & same).any(1)
            own, other = log_sums(exponents, off & same)[paired], log_sums(exponents, ~same)[paired]
            terms = np.logaddexp(0, other - own)
        scores.append(math.fsum(terms) / len(terms))
    return scores


def log_sums(exponents: np.ndarray, counted: np.ndarray) -> np.ndarray:
    held = np.where(counted, exponents, -np.inf)
    top = np.where(counted.any(1), held.max(1), 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(held - top[:, None]).sum(1)) + top


def options_of(distance: str) -> Iterator[dict[str, Any]]:
    for temperature in ("auto", 0.5, 100.0):
        for self_pair in ("exclude", "numerator_only"):
            yield {"distance": distance, "temperature": temperature, "self_pair": self_pair}


@pytest.mark.parametrize("shape", [(41, 3, 5), (49, 2, 2, 3), (6, 3, 4), (150, 2, 8)], ids=str)
@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_against_brute_force(shape: tuple[int, ...], distance: str, scale: float) -> None:
    """At scale 20 and T = 0.5 exponents lie in the thousands: sums are lost and rows are taken again."""
    features, groups = noise(*shape) * scale + 0.3, groups_of(shape[0])
    for options in options_of(distance):
        scores = snnl_scores_tiled(features, groups, **options)
        assert (scores.shape, scores.dtype) == ((shape[1],), torch.float64)
        assert scores.tolist() == pytest.approx(brute_force(features, groups, **options), rel=1e-9, abs=0), options


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 1e5}, RELEASED], ids=str)
@pytest.mark.parametrize("tile", [1, 2, 40, 512])
def test_against_brute_force_with_other_tiles(
    monkeypatch: pytest.MonkeyPatch, tile: int, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(snnl_tiled, "TILE", tile)
    features, groups = noise(40, 2, 6), groups_of(40)
    expected = brute_force(features, groups, **options)
    assert snnl_scores_tiled(features, groups, **options).tolist() == pytest.approx(expected, rel=1e-10, abs=0)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"temperature": 1e-4}, RELEASED], ids=str)
@pytest.mark.parametrize("sums", [2**23, 200])
def test_many_labellings(monkeypatch: pytest.MonkeyPatch, sums: int, options: dict[str, Any]) -> None:
    """100 of three groups, one of them a lone sample; in one pass, or in passes of one or two labellings."""
    monkeypatch.setattr(snnl_tiled, "_SUMS", sums)
    features = noise(30, 3, 4)
    labellings = torch.stack([groups_of(30, 0.2 + seed / 200, seed=seed, kinds=3) for seed in range(100)])
    labellings[:, 0] = -5
    scores = snnl_scores_tiled(features, labellings, **options)
    assert scores.shape == (100, 3)
    for row, groups in zip(scores, labellings, strict=True):
        assert row.tolist() == pytest.approx(brute_force(features, groups, **options), rel=1e-9, abs=0)


def test_groups_that_lie_far_apart_among_others_that_do_not() -> None:
    """By the first labelling every sum over the other group is e^-900 or less; by the others the groups are mixed."""
    truth = torch.arange(30) % 2
    features = 0.2 * noise(30, 2, 3) + 20.0 * truth[:, None, None]
    labellings = torch.stack([truth, *(groups_of(30, 0.5, seed=seed) for seed in range(6))])
    for temperature in (0.3, 2.0, 1000.0):
        scores = snnl_scores_tiled(features, labellings, temperature=temperature)
        for row, groups in zip(scores, labellings, strict=True):
            expected = brute_force(features, groups, temperature=temperature)
            assert row.tolist() == pytest.approx(expected, rel=1e-8, abs=1e-100)


def test_partners_far_away_and_strangers_near() -> None:
    """Maps 0, 1000, 0, 1000 (D = 1), T = 1, groups 0, 0, 1, 1: own sums e^-1000000, others 1: 1e6 per sample."""
    features = torch.tensor([0.0, 1000.0, 0.0, 1000.0])[:, None, None]
    assert snnl_scores_tiled(features, BLOCKED, temperature=1.0).item() == pytest.approx(1e6, rel=1e-12)
    assert snnl_scores_tiled(features, ALTERNATING, temperature=1.0).item() == 0


def test_groups_far_apart_keep_their_digits() -> None:
    """Maps 0, 1 against 10, 11 (D = 1), T = 1: mean of (e^-100 + e^-121) e and (e^-81 + e^-100) e: e^-80 / 2."""
    features = torch.tensor([0.0, 1.0, 10.0, 11.0])[:, None, None]
    scores = snnl_scores_tiled(features, BLOCKED, temperature=1.0)
    assert scores.item() == pytest.approx(9.024257e-36, rel=1e-6, abs=0)


def test_strangers_whose_sum_drowns_before_the_partners_does() -> None:
    """Two partners at squared distance 640 and a lone stranger at 735 from both, T = 1: ln(1 + e^-95) = e^-95.

    e^-640 is 1e-278, e^-735 too small for a double to have more than four digits.
    """
    side = math.sqrt(640)
    features = torch.tensor([[0, 0], [side, 0], [side / 2, math.sqrt(735 - 160)]], dtype=torch.float64)[:, None]
    score = snnl_scores_tiled(features, torch.tensor([0, 0, 1]), temperature=1.0)
    assert score.item() == pytest.approx(math.exp(-95), rel=1e-9, abs=0)


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 1e-40, 3e38])
@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
def test_constant_maps(distance: str, value: float) -> None:
    """All distances are equal, so T plays no part: -(16 ln(15/23) + 8 ln(7/23)) / 24 with groups of 16 and 8."""
    groups, expected = torch.arange(24) // 16, -(16 * math.log(15 / 23) + 8 * math.log(7 / 23)) / 24
    for size in (1, 3, 64):
        for temperature in ("auto", 0.01, 1e6):
            features = torch.full((24, 2, size), value)
            scores = snnl_scores_tiled(features, groups, distance=distance, temperature=temperature)  # type: ignore[arg-type]
            assert scores.tolist() == pytest.approx([expected] * 2, rel=1e-12), (size, temperature)


def test_maps_that_differ_by_a_gain_alone_are_constant_to_the_cosine() -> None:
    features = torch.linspace(0.1, 3, 24)[:, None, None].expand(24, 1, 49)
    expected = -(16 * math.log(15 / 23) + 8 * math.log(7 / 23)) / 24
    assert snnl_scores_tiled(features, torch.arange(24) // 16, distance="cosine").item() == pytest.approx(expected)


def test_equal_maps_among_far_ones() -> None:
    """Ten different maps, each three times, T = 1e-6: only equal ones count.

    Two of each are in group 0: own sum 1, other 1, ln 2. The third has a group of its own, and is skipped.
    """
    features = noise(10, 2, 70).repeat(3, 1, 1)
    groups = torch.cat([torch.zeros(20), 1 + torch.arange(10)]).long()
    scores = snnl_scores_tiled(features, groups, temperature=1e-6)
    assert scores.tolist() == pytest.approx([math.log(2)] * 2, rel=1e-7)


def test_zero_maps_have_cosine_0_with_all() -> None:
    features = noise(33, 2, 5)
    features[::4] = 0
    features[:, 1] *= (torch.arange(33) < 2)[:, None]  # a channel that is zero but for two samples
    for options in options_of("cosine"):
        expected = brute_force(features, groups_of(33), **options)
        assert snnl_scores_tiled(features, groups_of(33), **options).tolist() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("exponent", [-30, 20, 38])
def test_extreme_scales(exponent: int) -> None:
    """By "auto" the scale of a channel plays no part; by a fixed T, a score of 1e40 to 1e76 comes out finite."""
    features, groups = noise(30, 2, 4).double(), groups_of(30)
    scaled, expected = features * 10.0**exponent, brute_force(features, groups)
    assert snnl_scores_tiled(scaled, groups).tolist() == pytest.approx(expected, rel=1e-9)
    for temperature in (1e-30, 1.0, 1e30):
        for distance in ("sqeuclidean", "cosine"):
            options: dict[str, Any] = {"distance": distance, "temperature": temperature}
            assert snnl_scores_tiled(scaled.float(), groups, **options).isfinite().all()
            assert snnl_scores_tiled(scaled.float(), groups, **options, self_pair="numerator_only").isfinite().all()


def test_the_same_as_one_batch() -> None:
    """``snnl_scores`` of all samples at once, to float32."""
    features = noise(60, 4, 3, 3)
    labellings = torch.stack([groups_of(60, seed=seed) for seed in range(3)])
    for options in ({}, {"temperature": 0.05}, RELEASED):
        expected = snnl_scores(features, labellings, **options)
        torch.testing.assert_close(snnl_scores_tiled(features, labellings, **options).float(), expected)
        assert torch.allclose(snnl_scores_tiled(features, labellings[1], **options).float(), expected[1], rtol=1e-6)


@pytest.mark.parametrize("size", [1, 9, 64])
@pytest.mark.parametrize("temperature", ["auto", 0.05])
def test_a_channel_is_the_same_bit_for_bit_in_any_company_and_with_any_threads(
    monkeypatch: pytest.MonkeyPatch, size: int, temperature: Any
) -> None:
    """Tiles as they are shipped, which torch's threads do share; under T = 0.05 rows are taken again."""
    monkeypatch.setattr(snnl_tiled, "TILE", 512)
    monkeypatch.setattr(snnl_tiled, "_EXPONENTS", 2**21)
    features, labellings = noise(1100, 3, size), torch.stack([groups_of(1100, seed=seed) for seed in range(2)])
    together = snnl_scores_tiled(features, labellings, temperature=temperature)
    threads = torch.get_num_threads()
    try:
        for count in (2, 3):
            torch.set_num_threads(count)
            assert torch.equal(snnl_scores_tiled(features, labellings, temperature=temperature), together)
    finally:
        torch.set_num_threads(threads)
    alone = [snnl_scores_tiled(features[:, [k]], labellings, temperature=temperature) for k in (0, 1, 2)]
    assert torch.equal(torch.cat(alone, 1), together)
    channel_major = features.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(snnl_scores_tiled(channel_major, labellings, temperature=temperature), together)


def test_a_long_sum_is_the_same_bit_for_bit_with_any_threads() -> None:
    """From 32,768 numbers on torch cuts a sum to a single one by the threads it has; of thirds, so that they round."""
    numbers, threads = noise(100_000).double() / 3, torch.get_num_threads()
    sums = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            sums.append(snnl_tiled._total(numbers).item())
    finally:
        torch.set_num_threads(threads)
    assert len(set(sums)) == 1
    assert sums[0] == pytest.approx(math.fsum(numbers.tolist()), rel=1e-10)


def test_no_sample_with_a_partner() -> None:
    with pytest.raises(ScoreError, match="none of the 4 samples"):
        snnl_scores_tiled(noise(4, 1, 2), torch.stack([BLOCKED, torch.arange(4)]))
    assert snnl_scores_tiled(noise(4, 1, 2), torch.arange(4), **RELEASED).isfinite().all()
    assert snnl_scores_tiled(noise(9, 1, 2), torch.zeros(9, dtype=torch.long)).item() == 0


@pytest.mark.parametrize(
    ("features", "groups", "options", "words"),
    [
        (noise(4, 2), BLOCKED, {}, "features must be"),
        (noise(5, 2, 3), BLOCKED, {}, "groups must be"),
        (noise(4, 2, 3), BLOCKED, {"temperature": 0}, "temperature.*0"),
        (noise(4, 2, 3), BLOCKED, {"distance": "euclidean"}, "distance.*'euclidean'"),
        (noise(4, 2, 3), BLOCKED, {"self_pair": "include"}, "self_pair.*'include'"),
    ],
)
def test_bad_input(features: torch.Tensor, groups: torch.Tensor, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        snnl_scores_tiled(features, groups, **options)


MEMORY = """
import re, sys, torch
from pathlib import Path
from scp_ray.maths.snnl_tiled import snnl_scores_tiled

def megabytes(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

torch.set_num_threads(1)
snnl_scores_tiled(torch.randn(9, 1, 2), torch.arange(9) % 2)
samples, labellings = map(int, sys.argv[1:])
features, groups = torch.randn(samples, 1, 64), (torch.rand(labellings, samples) < 0.3).long()
before = megabytes("VmRSS")
assert snnl_scores_tiled(features, groups[0] if labellings == 1 else groups).isfinite().all()
print(megabytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
@pytest.mark.parametrize(("samples", "labellings"), [(6000, 1), (4000, 101)])
def test_extra_memory_is_far_from_that_of_all_pairs(samples: int, labellings: int) -> None:
    """6,000 x 6,000 doubles are 288 MB, one such matrix alone; 101 labellings of 4,000 samples need their own sums."""
    command = [sys.executable, "-c", MEMORY, str(samples), str(labellings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 100
