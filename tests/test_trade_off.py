"""The trade-off plane: front, intervals, floor and published points, against figured_sweep.py."""

from __future__ import annotations

import math

import figured_sweep
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from figured_sweep import BASE_EODD, BASE_F1, EODD, F1, by_label, texts
from scipy.stats import t as student

from scp_ray.ledger import Sweep, load_sweep
from scp_ray.report.figures.trade_off import trade_off


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(figured_sweep.make(tmp_path_factory.mktemp("figured") / "sweep"))


def test_the_plane_has_front_and_knee(sweep):
    drawn = trade_off(sweep)
    arms = drawn.data[drawn.data["kind"] == "arm"].set_index("arm")
    assert arms["f1"].tolist() == pytest.approx(list(F1))
    assert arms["eodd"].tolist() == pytest.approx(list(EODD))
    # the first arm has less F1 and a larger gap than the second; the others trade one for the other
    assert arms["front"].tolist() == [False, True, True, True]
    # between the ends (0.60, 0.12) and (0.56, 0.08) the fourth lies at (0.5, 0.25) of 0 best .. 1 worst: 0.75 < 1
    assert arms["knee"].tolist() == [False, False, False, True]
    marks = by_label(drawn.figure.axes[0])
    assert marks["knee"].get_xydata().tolist() == [pytest.approx([0.58, 0.09])]
    assert marks["before pruning"].get_xydata().tolist() == [pytest.approx([BASE_F1, BASE_EODD])]
    assert marks["arm on the front"].get_xdata() == pytest.approx([0.56, 0.58, 0.60])


def test_the_planes_intervals_and_floor_come_from_the_evidence(sweep):
    drawn = trade_off(sweep)
    row = drawn.data.iloc[0]
    seeds, images = figured_sweep.F1_APART**2 / 3, figured_sweep.F1_ERROR**2
    half = math.sqrt(student.ppf(0.975, 2) ** 2 * seeds + student.ppf(0.975, math.inf) ** 2 * images)
    assert (row["f1_low"], row["f1_high"]) == pytest.approx((F1[0] - half, F1[0] + half))
    floor = by_label(drawn.figure.axes[0])["base's noise floor"]
    assert (floor.get_y(), floor.get_y() + floor.get_height()) == pytest.approx((0.02, 0.085))
    assert drawn.data["within"].tolist()[:4] == [False, False, True, False]


def test_bars_that_say_nothing_do_not_squeeze_the_plane(tmp_path):
    """Two seeds 0.2 apart in F1: the interval reaches from 0 to 1, t with about one degree of freedom."""
    root = figured_sweep.make(tmp_path / "sweep", seeds=(0, 2), evidence=False)
    for path in (root / "rounds").iterdir():
        rows = pq.read_table(path).to_pandas()
        rows["val_f1"] += 0.1 * (rows["seed"] - 1) * (rows["round"] > 0)
        pq.write_table(pa.Table.from_pandas(rows), path)
    drawn = trade_off(load_sweep(root))
    arms = drawn.data[drawn.data["kind"] == "arm"]
    assert arms["f1_low"].tolist() == [0.0] * 4
    assert arms["f1_high"].tolist() == [1.0] * 4
    low, high = drawn.figure.axes[0].get_xlim()
    assert low < BASE_F1 < 0.6 < high
    assert high - low < 0.3  # the points span 0.1


def test_a_lone_seed_without_evidence_has_no_interval(tmp_path):
    drawn = trade_off(load_sweep(figured_sweep.make(tmp_path / "sweep", seeds=(1,), evidence=False)))
    assert drawn.data[["f1_low", "f1_high", "eodd_low", "eodd_high"]].isna().all(axis=None)
    drawn.figure.draw_without_rendering()


def test_published_points_are_lettered_and_said_to_be_of_other_images(sweep):
    published = pd.DataFrame(
        {"method": ["VGG-11", "nothing", "SCP"], "f1": [0.51, 0.5, 0.53], "eodd": [0.182, None, 0.139]}
    )
    drawn = trade_off(sweep, published=published)
    points = by_label(drawn.figure.axes[0])["published"]
    assert points.get_xydata().tolist() == [[0.51, 0.182], [0.53, 0.139]]
    assert {"a", "b"} <= texts(drawn.figure.axes[0])
    assert "of its own test images" in drawn.caption
    assert "a VGG-11, b SCP" in drawn.caption
