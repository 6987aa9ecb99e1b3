"""How images are dealt to train, val and test, and how often training draws them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from scp_ray.data.fitzpatrick17k import Fitzpatrick17k
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.data.splits import clusters, deal
from scp_ray.maths.balance import balanced_weights

SHARES = (0.8, 0.1, 0.1)
# The split that is served is owed a third of the row at the least, so that it is never ahead by more than 2/3, the two
# others together never behind by more than 4/3: between the first and the last row of a cell a debt moves by less than
BOUND = 2


def codes(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, np.int64)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("seed", range(5))
def test_whole_counts_are_dealt_exactly(seed: int) -> None:
    split = deal(np.arange(1_000) % 7, np.arange(1_000), SHARES, seed)
    assert Counter(split.tolist()) == {0: 800, 1: 100, 2: 100}
    split = deal(np.zeros(10, np.int64), np.arange(10), (0.6, 0.2, 0.2), seed)
    assert Counter(split.tolist()) == {0: 6, 1: 2, 2: 2}


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_is_dealt_about_evenly(seed: int) -> None:
    sizes = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233]
    cells = np.random.default_rng(seed).permutation(np.repeat(np.arange(12), sizes))
    split = deal(cells, np.arange(len(cells)), SHARES, seed)
    for part, share in enumerate(SHARES):
        assert abs((split == part).sum() - share * len(cells)) < BOUND
        for cell, size in enumerate(sizes):
            assert abs((split[cells == cell] == part).sum() - share * size) < BOUND


def test_thin_cells_reach_val_and_test_in_proportion() -> None:
    sizes = [1, 2, 3, 1, 2, 37, 58, 23, 41, 16, 9, 77]
    cells = np.repeat(np.arange(12), sizes)
    runs = 600
    splits = np.stack([deal(cells, np.arange(len(cells)), SHARES, seed) for seed in range(runs)])
    for cell, size in enumerate(sizes[:5]):
        dealt = np.bincount(splits[:, cells == cell].ravel(), minlength=3)
        assert dealt.sum() == runs * size
        # 600 draws of 0.1 have a standard deviation of 7, those of larger cells less for each row
        assert abs(dealt[1] / size - 60) < 30
        assert abs(dealt[2] / size - 60) < 30


def test_a_thin_cell_beside_round_ones_reaches_val_and_test() -> None:
    cells = np.repeat(np.arange(5), [20, 30, 40, 50, 1])
    dealt = Counter(int(deal(cells, np.arange(141), SHARES, seed)[-1]) for seed in range(300))
    assert 10 < dealt[1] < 60  # 30 expected, standard deviation 5
    assert 10 < dealt[2] < 60


@pytest.mark.parametrize("seed", range(5))
def test_units_are_never_torn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = rng.integers(0, 400, 1_500)
    cells = units % 6  # a lesion has one diagnosis
    split = deal(cells, units, (0.6, 0.2, 0.2), seed)
    of_unit: dict[int, set[int]] = {}
    for unit, part in zip(units.tolist(), split.tolist(), strict=True):
        of_unit.setdefault(unit, set()).add(part)
    assert all(len(parts) == 1 for parts in of_unit.values())
    largest = max(Counter(units.tolist()).values())
    assert largest > 5
    for part, share in enumerate((0.6, 0.2, 0.2)):
        assert abs((split == part).sum() - share * 1_500) < BOUND * largest
        for cell in range(6):
            assert abs((split[cells == cell] == part).sum() - share * (cells == cell).sum()) < BOUND * largest


def test_a_unit_in_several_cells_counts_for_its_first_row() -> None:
    # units of two rows, the first in cell 0 and the second in cell 1: to `deal` it is all one cell of size 2 each
    units = np.repeat(np.arange(20), 2)
    split = deal(np.tile([0, 1], 20), units, (0.5, 0.5), 3)
    assert (split[::2] == split[1::2]).all()
    assert Counter(split.tolist()) == {0: 20, 1: 20}


def test_a_large_unit_goes_first_and_the_small_ones_make_up_for_it() -> None:
    # 6 rows of one unit and 6 single ones to two halves: the singles go to the other half, whatever the seed
    units = codes([7] * 6 + list(range(20, 26)))
    for seed in range(10):
        split = deal(np.zeros(12, np.int64), units, (0.5, 0.5), seed)
        assert len(set(split[:6].tolist())) == 1
        assert (split[6:] == split[0]).sum() <= 1  # the last one may fall to either


def test_the_seed_decides() -> None:
    cells, units = np.arange(300) % 4, np.arange(300)
    first = deal(cells, units, SHARES, 5)
    assert deal(cells, units, SHARES, 5).tolist() == first.tolist()
    assert (deal(cells, units, SHARES, 6) != first).sum() > 30  # two independent deals differ in a third of the rows


def test_clusters_by_hand() -> None:
    #      0    1    2    3    4    5    6    7
    a = ["x", "x", "",  "y", "",  "z", "",  "y"]  # fmt: skip
    b = ["",  "1", "1", "2", "2", "",  "",  ""]  # fmt: skip
    found = clusters(pd.Series(a), pd.Series(b)).tolist()
    # 0-1 by a, 1-2 by b; 3-7 by a, 3-4 by b; 5 and 6 alone: an empty cell joins nobody
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] == found[7]
    assert len({found[0], found[3], found[5], found[6]}) == 4
    alone = clusters(pd.Series(["", "", ""]), pd.Series(["", "", ""]))
    assert len(set(alone.tolist())) == 3
    same_word = clusters(pd.Series(["q", "", ""]), pd.Series(["", "q", ""]))  # a lesion q is no duplicate group q
    assert len(set(same_word.tolist())) == 3


def cells_of(rows: list[dict[str, str]], name: str, *columns: str) -> dict[tuple[str, ...], set[str]]:
    """The ids of each combination of values."""
    cells: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        cells.setdefault(tuple(row[column] for column in columns), set()).add(row[name])
    return cells


def test_seeded_splits_of_fitzpatrick_are_stratified(published: Path) -> None:
    rows = Fitzpatrick17k(str(published), splits="seeded").rows()
    assert Counter(rows["split"])["train"] == pytest.approx(0.8 * 16_577, abs=BOUND)
    groups = {"1": "light", "2": "light", "3": "light", "-1": "unknown"}
    source = [
        row | {"group": groups.get(row["fitzpatrick_scale"], "dark")} for row in read(published / "fitzpatrick17k.csv")
    ]
    cells = cells_of(source, "md5hash", "label", "group")
    split = dict(zip(rows["id"], rows["split"], strict=True))
    assert len(split) == 16_577
    large = 0
    for members in cells.values():
        counts = Counter(split[name] for name in members)
        for part in ("val", "test"):
            assert abs(counts[part] - 0.1 * len(members)) < BOUND
            if len(members) >= 50:
                large += 1
                assert abs(counts[part] / len(members) - 0.1) < 0.04
    assert large > 200
    # of 565 rows in cells of 1 to 20 each, many of them 1 to 4
    thin = [name for members in cells.values() if len(members) < 5 for name in members]
    assert 0.04 < np.mean([split[name] == "val" for name in thin]) < 0.2
    assert 0.04 < np.mean([split[name] == "test" for name in thin]) < 0.2


def test_the_rule_for_unknown_groups_moves_no_row(published: Path) -> None:
    unknown = {row["md5hash"] for row in read(published / "fitzpatrick17k.csv") if row["fitzpatrick_scale"] == "-1"}
    as_1 = Fitzpatrick17k(str(published), splits="seeded", unknown_group="as_1").rows().set_index("id")
    known = Fitzpatrick17k(str(published), splits="seeded", unknown_group="drop").rows().set_index("id")
    assert set(as_1.index) - set(known.index) == unknown
    assert as_1.loc[known.index, "split"].tolist() == known["split"].tolist()


def test_split_seed_and_shares_are_used(published: Path) -> None:
    def split(**options: Any) -> pd.Series:
        return Fitzpatrick17k(str(published), splits="seeded", **options).rows().set_index("id")["split"].sort_index()

    first = split()
    assert split(split_seed=0).equals(first)
    assert (split(split_seed=1) != first).mean() > 0.2  # 1 - 0.8**2 - 0.1**2 - 0.1**2 = 0.34 of independent deals
    counts = Counter(split(val_share=0.25, test_share=0.05))
    assert counts["val"] == pytest.approx(0.25 * 16_577, abs=BOUND)
    assert counts["test"] == pytest.approx(0.05 * 16_577, abs=BOUND)


def test_leak_free_splits_of_isic(published: Path) -> None:
    source = [row for path in sorted(published.glob("isic2019_*.csv")) for row in read(path)]
    assert len(source) == 24_840
    data_set = ISIC2019(str(published), splits="leak_free")
    rows = data_set.rows()
    split = dict(zip(rows["id"], rows["split"], strict=True))
    lesions: dict[str, set[str]] = {}
    for row in source:
        if row["lesion_id"]:
            lesions.setdefault(row["lesion_id"], set()).add(split[row["image"]])
    assert len(lesions) == 11_748
    assert all(len(parts) == 1 for parts in lesions.values())
    counts = Counter(split.values())
    for part, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
        assert abs(counts[part] / 24_840 - share) < 0.005
    # each diagnosis and sex as well: the largest lesion has 31 images
    for members in cells_of(source, "image", "low", "gender").values():
        inside = Counter(split[name] for name in members)
        for part, share in {"train": 0.6, "val": 0.2, "test": 0.2}.items():
            assert abs(inside[part] - share * len(members)) < BOUND * 31
    leakage = data_set.health(tables_only=True).leakage
    assert leakage == {"train-val": 0, "train-test": 0, "val-test": 0}


def test_seeded_splits_of_isic_tear_lesions(published: Path) -> None:
    rows = ISIC2019(str(published), splits="seeded").rows()
    assert (rows.groupby("unit")["split"].nunique() > 1).sum() > 1_000


LABEL = torch.tensor([0, 0, 0, 1, 3])
GROUP = torch.tensor([0, 1, 1, 0, 1])


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("class", [1 / 3, 1 / 3, 1 / 3, 1, 1]),
        ("group", [1 / 2, 1 / 3, 1 / 3, 1 / 2, 1 / 3]),
        ("class_group", [1, 1 / 2, 1 / 2, 1, 1]),
    ],
)
def test_balanced_weights_by_hand(over: Any, expected: list[float]) -> None:
    weights = balanced_weights(LABEL, GROUP, over)
    assert weights is not None
    assert weights.tolist() == pytest.approx(expected)


def test_plain_sampling_has_no_weights() -> None:
    assert balanced_weights(LABEL, GROUP, "plain") is None


def test_cells_of_a_class_and_a_group_are_not_confused() -> None:
    # (0, 1) and (1, 0) are two cells, (0, 1) three times
    weights = balanced_weights(torch.tensor([0, 1, 0, 0]), torch.tensor([1, 0, 1, 1]), "class_group")
    assert weights is not None
    assert weights.tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])
    # one class has group 1 only: three cells of equal weight in all
    assert weights.sum() == pytest.approx(2)
