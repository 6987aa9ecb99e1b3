from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from snnl_by_hand import RELEASED, brute_force, groups_of, maps_of

from scp_ray.errors import ScoreError
from scp_ray.maths.snnl import snnl_scores

# Four samples of one channel with maps e1, e2, e1, e2.
CROSS = torch.eye(2).repeat(2, 1)[:, None, :]
ALTERNATING, BLOCKED = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])


def one_score(features, groups, **options):
    return snnl_scores(features, groups, **options).item()


@pytest.mark.parametrize(
    ("groups", "options", "expected"),
    [
        (ALTERNATING, {}, 0.368981),
        (BLOCKED, {}, 1.868981),
        (ALTERNATING, {"temperature": 1}, 0.239545),
        (BLOCKED, {"temperature": 1.0}, 2.239545),
        (ALTERNATING, RELEASED, -0.141702),
        (BLOCKED, RELEASED, 0.238183),
    ],
)
def test_four_unit_maps_by_hand(groups, options, expected):
    """Of the 12 ordered pairs 8 are at squared distance 2 and 4 at 0.

    Auto: T = 16/12 = 4/3, so a far pair weighs e^-1.5. Alternating groups: ln(1 + 2 e^-1.5) = 0.368981;
    blocked groups, where the partner is far: 1.5 more. T = 1: ln(1 + 2 e^-2) = 0.239545, and 2 more.
    Released, cosine distance 0 or 1: ln((1 + 2/e) / (1 + 1)) = -0.141702; ln((1 + 2/e) / (1 + 1/e)) = 0.238183.
    """
    assert one_score(CROSS, groups, **options) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -7.5, 1e-40, 3e38])
@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
def test_constant_map(distance, value):
    """All distances are equal, so T plays no part: -(4 ln(3/5) + 2 ln(1/5)) / 6 with groups of 4 and 2."""
    groups = torch.tensor([0, 0, 0, 0, 1, 1])
    for size in (1, 3, 9, 64):
        for temperature in ("auto", 0.01, 1.0, 1e6):
            scores = snnl_scores(torch.full((6, 2, size), value), groups, distance=distance, temperature=temperature)
            assert scores.tolist() == pytest.approx([0.877030] * 2, abs=1e-6), (size, temperature)


def test_maps_that_differ_by_a_gain_alone_are_constant_to_the_cosine():
    """Maps g_i x (1, ..., 1), g_i > 0: all angles are 0, and auto must not blow rounding up to a distance."""
    gains = torch.tensor([0.3, 1.7, 2.9, 0.1, 3.3, 1.1])[:, None, None]
    for size in (3, 9, 49, 64):
        score = one_score(gains.expand(6, 1, size), torch.tensor([0, 0, 0, 0, 1, 1]), distance="cosine")
        assert score == pytest.approx(0.877030, abs=1e-6), size


@pytest.mark.parametrize("value", [1.0, 0.0])
def test_constant_map_released(value):
    """-(4 ln(4/5) + 2 ln(2/5)) / 6.

    An all-zero map has cosine 0 with all maps, itself too: every term weighs 1/e, and the ratios are the same.
    """
    features = torch.full((6, 2, 3), value)
    scores = snnl_scores(features, torch.tensor([0, 0, 0, 0, 1, 1]), **RELEASED)
    assert scores.tolist() == pytest.approx([0.454193] * 2, abs=1e-6)


def test_released_with_one_group():
    """Numerator 4, denominator 3: -ln(4/3). The paper's form is -ln(3/3) = 0."""
    features, groups = torch.ones(4, 1, 2), torch.zeros(4, dtype=torch.long)
    assert one_score(features, groups, **RELEASED) == pytest.approx(-0.287682, abs=1e-6)
    assert one_score(features, groups) == 0


def test_released_lone_pair_is_finite():
    """e1 and e2, one sample per group: own pair 1, the other e^-1, so ln(e^-1 / (1 + 1e-9)) = -1."""
    assert one_score(torch.eye(2)[:, None, :], torch.tensor([0, 1]), **RELEASED) == pytest.approx(-1, abs=1e-6)


def test_released_adds_1e_9_to_the_numerator():
    """All-zero maps, one sample per group, T = 0.05: every pair weighs e^-20 = 2.06e-9, so the 1e-9 shows.

    ln(e^-20 / (e^-20 + 1e-9)) = -ln(1 + 1e-9 e^20) = -ln(1.485165) = -0.395526.
    """
    score = one_score(torch.zeros(2, 1, 3), torch.tensor([0, 1]), **(RELEASED | {"temperature": 0.05}))
    assert score == pytest.approx(-0.395526, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}])
def test_paper_form_ignores_translation_and_rotation(options):
    generator = np.random.default_rng(3)
    features, groups = generator.normal(size=(16, 4, 6)), groups_of(16, 6)
    rotation = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    moved = features @ rotation + generator.normal(size=(1, 4, 6)) * 50
    before, after = (snnl_scores(torch.from_numpy(x), groups, **options) for x in (features, moved))
    torch.testing.assert_close(after, before, rtol=1e-6, atol=0)


@pytest.mark.parametrize("exponents", [(-2, 0, 1, 4), (-12, 12, -30, 30), (-200, 200, -100, 100)])
def test_auto_temperature_ignores_the_scale_of_a_channel(exponents):
    """In float64, so that a scale of 1e200 can be had at all."""
    features, groups = maps_of((16, 4, 6), offset=2).double(), groups_of(16, 6)
    gains = 10.0 ** torch.tensor(exponents, dtype=torch.float64)[:, None]
    torch.testing.assert_close(snnl_scores(features * gains, groups), snnl_scores(features, groups), rtol=1e-5, atol=0)


def test_released_form_ignores_a_positive_gain_per_sample():
    features, groups = maps_of((16, 4, 6)), groups_of(16, 6)
    gains = 2.0 ** torch.arange(-8, 8)[:, None, None]
    scaled, plain = snnl_scores(features * gains, groups, **RELEASED), snnl_scores(features, groups, **RELEASED)
    torch.testing.assert_close(scaled, plain, rtol=1e-6, atol=0)
    assert not torch.allclose(snnl_scores(features * gains, groups), snnl_scores(features, groups), rtol=1e-2)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, RELEASED])
def test_separating_channel_scores_below_a_mixed_one(options):
    """Channel 0 shows the group, channel 1 something that has nothing to do with it."""
    features = torch.stack([torch.eye(2)[BLOCKED], torch.eye(2)[ALTERNATING]], dim=1)
    separating, mixed = snnl_scores(features, BLOCKED, **options)
    assert separating < mixed


@pytest.mark.parametrize("case", [0, 1])
def test_golden_values(shared: Path, case):
    golden = json.loads((shared / "golden" / "golden.json").read_text())["snnl"][case]
    features = torch.from_numpy(np.load(shared / "golden" / "features.npz")[f"case{case}"])
    groups = torch.tensor(golden["groups"])
    for distance, key in (("sqeuclidean", "euclidean"), ("cosine", "cosine")):
        assert set(golden[key]) == {"0.5", "1.0", "100.0"}
        for temperature, expected in golden[key].items():
            scores = snnl_scores(features, groups, distance=distance, temperature=float(temperature))
            # the reference subtracts two logarithms, so it knows scores near 0 to about 1e-15 only
            assert scores.tolist() == pytest.approx(expected, rel=1e-5, abs=2e-15), (distance, temperature)
    released = snnl_scores(features, groups, **RELEASED)
    assert released.tolist() == pytest.approx(golden["released_cosine_T1"], rel=1e-5)


@pytest.mark.parametrize("shape", [(20, 3, 8), (20, 3, 3, 4)])
@pytest.mark.parametrize("ones", [2, 10])
@pytest.mark.parametrize("offset", [0.0, 50.0, -1000.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("distance", ["sqeuclidean", "cosine"])
def test_against_brute_force(distance, scale, offset, ones, shape):
    features, groups = maps_of(shape, scale=scale, offset=offset), groups_of(20, ones)
    for temperature in ("auto", 0.5, 100.0):
        for self_pair in ("exclude", "numerator_only"):
            options = {"distance": distance, "temperature": temperature, "self_pair": self_pair}
            scores = snnl_scores(features, groups, **options)
            assert scores.shape == (3,)
            assert scores.dtype == torch.float32
            assert scores.tolist() == pytest.approx(brute_force(features, groups, **options), rel=1e-5, abs=0), options


def test_maps_of_a_network_that_is_being_trained():
    """Scores are numbers, no part of a loss."""
    features, groups = maps_of((20, 3, 8)), groups_of(20, 6)
    for dtype in (torch.float32, torch.float64):
        live = features.to(dtype).requires_grad_()
        scores = snnl_scores(live * 1.0, groups)
        assert not scores.requires_grad
        torch.testing.assert_close(scores, snnl_scores(features.to(dtype), groups), rtol=0, atol=0)


def test_many_channels_against_brute_force():
    """Enough channels of large maps for several blocks: the blocks must join in order."""
    features, groups = maps_of((8, 300, 24, 24), scale=3), groups_of(8, 3)
    features *= torch.linspace(0.1, 10, 300)[:, None, None]
    scores = snnl_scores(features, groups, temperature=500.0)
    chosen = [0, 1, 149, 226, 227, 228, 298, 299]
    expected = brute_force(features[:, chosen], groups, temperature=500.0)
    assert scores.shape == (300,)
    assert scores[chosen].tolist() == pytest.approx(expected, rel=1e-5, abs=0)


def test_groups_that_are_far_apart_keep_their_digits():
    """Maps 0, 1 against 10, 11 (D = 1), T = 1: per sample ln(1 + (e^-100 + e^-121) / e^-1), and e^-81 for e^-121.

    Samples 0 and 11: (e^-100 + e^-121) e; samples 1 and 10: (e^-81 + e^-100) e. Mean: e^-80 / 2 = 9.024257e-36.
    """
    features = torch.tensor([0.0, 1.0, 10.0, 11.0])[:, None, None]
    assert one_score(features, BLOCKED, temperature=1.0) == pytest.approx(9.024257e-36, rel=1e-5, abs=0)


def test_three_groups():
    """Maps e1, e1, e2, e2, e3, e3 in groups of equal maps, T = 1: one partner at 0, four others at 2."""
    features = torch.eye(3).repeat_interleave(2, 0)[:, None, :]
    groups = torch.tensor([0, 0, 7, 7, -3, -3])
    assert one_score(features, groups, temperature=1.0) == pytest.approx(math.log(1 + 4 * math.exp(-2)), rel=1e-6)
    mixed = torch.tensor([0, 1, 2, 0, 1, 2])
    noise = maps_of((6, 2, 5))
    assert snnl_scores(noise, mixed).tolist() == pytest.approx(brute_force(noise, mixed), rel=1e-5)


def test_lone_samples_are_skipped_but_count_as_neighbours():
    """Maps 0, 0 of one group and 0 alone in another: each of the pair has 1 of 2 neighbours of its own: ln 2.

    With the lone sample as a third term the mean would be infinite; without it as a neighbour, 0.
    """
    assert one_score(torch.zeros(3, 1, 2), torch.tensor([0, 0, 1])) == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("groups", [[0, 1], [0, 1, 2, 3]])
def test_no_sample_with_a_partner(groups):
    with pytest.raises(ScoreError, match=r"none of the \d samples"):
        snnl_scores(torch.ones(len(groups), 1, 2), torch.tensor(groups))


def extremes():
    noise = maps_of((8, 2, 4))
    outlier, sign = noise.clone(), torch.where(noise > 0, 1.0, -1.0)
    outlier[5] = 1e30
    return {
        "1e30": noise * 1e30,
        "3e38": sign * 3e38,
        "subnormal": sign * 1e-45,
        "mixed": torch.where(noise > 0, 3e38, 1e-45),
        "equal": torch.full_like(noise, 3.4e38),
        "outlier": outlier,
        "plain": noise,
        "zero": torch.zeros_like(noise),
        "float64": noise.double() * 1e200,
    }


@pytest.mark.parametrize("temperature", ["auto", 1.0, 1e-30, 1e30])
@pytest.mark.parametrize("name", extremes())
def test_extreme_inputs_give_finite_scores(name, temperature):
    features, groups = extremes()[name], groups_of(8, 3)
    for distance in ("sqeuclidean", "cosine"):
        for self_pair in ("exclude", "numerator_only"):
            options = {"distance": distance, "temperature": temperature, "self_pair": self_pair}
            assert snnl_scores(features, groups, **options).isfinite().all(), options


def test_extreme_scores_by_hand():
    """Maps 0, 1e30, 0, 1e30: blocked groups put every partner 1e60 away and a stranger at 0.

    With auto, T = 8/12 of 1e60: 1.5 + ln(1 + 2 e^-1.5) as for unit maps. With T = 1 the score is 1e60: beyond
    float32, so its largest number. Maps 0 and 1e-15 have T = 1e-30 / 1.5 at auto, and the same score.
    """
    large, small = (torch.tensor([0.0, x, 0.0, x])[:, None, None] for x in (1e30, 1e-15))
    assert one_score(large, BLOCKED) == pytest.approx(1.868981, abs=1e-6)
    assert one_score(large, BLOCKED, temperature=1.0) == torch.finfo(torch.float32).max
    assert one_score(small, BLOCKED, temperature=1e-30 / 1.5) == pytest.approx(1.868981, abs=1e-5)


MEMORY = """
import re, sys, torch
from pathlib import Path
from scp_ray.maths.snnl import snnl_scores

def megabytes(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

torch.set_num_threads(1)
groups = torch.arange(128) % 2
snnl_scores(torch.randn(4, 2, 2), groups[:4])  # what torch loads on first use is no part of the score
channels, side = map(int, sys.argv[1:])
features = torch.randn(128, channels, side, side)
before = megabytes("VmRSS")
scores = snnl_scores(features, groups)
assert scores.isfinite().all()
print(megabytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
@pytest.mark.parametrize(("channels", "side"), [(512, 8), (2048, 8), (64, 56)])
def test_extra_memory_of_a_large_layer_stays_under_300_megabytes(channels, side):
    """All at once, three copies or more of 67 MB, of 268 MB (distances as doubles) and of 206 MB (maps as doubles).

    A process of its own: the peak of this one may lie far above what it holds now.
    """
    command = [sys.executable, "-c", MEMORY, str(channels), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout) < 300


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"distance": "euclidean"}, "distance.*'euclidean'"),
        ({"self_pair": "include"}, "self_pair.*'include'"),
        ({"temperature": 0}, "temperature.*0"),
        ({"temperature": -1.0}, "temperature.*-1"),
        ({"temperature": math.inf}, "temperature.*inf"),
        ({"temperature": math.nan}, "temperature.*nan"),
        ({"temperature": "mean"}, "temperature.*'mean'"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        snnl_scores(CROSS, BLOCKED, **options)


@pytest.mark.parametrize(
    ("features", "groups", "words"),
    [
        (torch.ones(4, 2), BLOCKED, "features must be"),
        (torch.ones(4, 2, 1, 1, 1), BLOCKED, "features must be"),
        (torch.ones(4, 2, 3, dtype=torch.long), BLOCKED, "features must be float"),
        (torch.ones(5, 2, 3), BLOCKED, "groups must be"),
        (torch.ones(4, 2, 3), BLOCKED[None, None], "groups must be"),
        (torch.ones(1, 2, 3), torch.tensor([0]), "at least 2 samples"),
    ],
)
def test_bad_shapes(features, groups, words):
    with pytest.raises(ValueError, match=words):
        snnl_scores(features, groups)
