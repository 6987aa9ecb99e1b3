"""The same picture twice: found by its hash, reported, kept in one split, dropped on request."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scp_ray.data.csv_table import CSVTable
from scp_ray.data.duplicates import duplicate_groups
from scp_ray.data.fitzpatrick17k import Fitzpatrick17k
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.data.pixels import DUPLICATE_BITS
from scp_ray.data.survey import duplicates_of

Partition = set[frozenset[int]]
HEADER = "picture,finding,tone,part,lesion_id"
NAMED: dict[str, Any] = {"file": "picture", "label": "finding", "group": "tone", "split": "part", "unit": "lesion_id"}


def partition(codes: np.ndarray) -> Partition:
    return {frozenset(np.flatnonzero(codes == code).tolist()) for code in set(codes.tolist())}


def brute_force(hashes: list[int], bits: int) -> Partition:
    """Every pair compared as whole numbers; chains are joined name by name."""
    group = list(range(len(hashes)))
    for left, one in enumerate(hashes):
        for right in range(left):
            if (one ^ hashes[right]).bit_count() <= bits and group[left] != group[right]:
                old, new = group[left], group[right]
                group = [new if name == old else name for name in group]
    return {frozenset(row for row, name in enumerate(group) if name == wanted) for wanted in set(group)}


def packed(hashes: list[int], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(value.to_bytes(width, "big") for value in hashes), np.uint8).reshape(-1, width)


def random_hashes(count: int, width: int, seed: int) -> list[int]:
    content = np.random.default_rng(seed).bytes(count * width)
    return [int.from_bytes(content[start : start + width], "big") for start in range(0, count * width, width)]


def flipped(value: int, bits: range) -> int:
    for bit in bits:
        value ^= 1 << bit
    return value


def test_planted_pairs_and_a_chain() -> None:
    hashes = random_hashes(1_100, 32, 1)
    hashes[900] = hashes[3]  # the same
    hashes[512] = flipped(hashes[511], range(24))  # 24 bits, all at the end
    hashes[1_099] = flipped(hashes[0], range(232, 256))  # 24 bits, all at the beginning
    hashes[600] = flipped(hashes[10], range(0, 250, 10))  # 25 bits: too many
    hashes[41] = flipped(hashes[40], range(0, 20))  # a chain of steps of 20 bits; its ends are 60 apart
    hashes[700] = flipped(hashes[41], range(100, 120))
    hashes[42] = flipped(hashes[700], range(200, 220))
    found = partition(duplicate_groups(packed(hashes, 32), 24))
    planted = [{3, 900}, {511, 512}, {0, 1_099}, {40, 41, 42, 700}]
    assert {group for group in found if len(group) > 1} == {frozenset(group) for group in planted}
    assert found == brute_force(hashes, 24)


@pytest.mark.parametrize("seed", range(3))
def test_natural_pairs_as_by_brute_force(seed: int) -> None:
    # of 64 random bits two rows differ in 32 on average, in at most 21 with a chance of 0.4 %
    hashes = random_hashes(250, 8, seed)
    expected = brute_force(hashes, 21)
    assert sum(len(group) > 1 for group in expected) > 20
    assert any(len(group) > 2 for group in expected)
    assert partition(duplicate_groups(packed(hashes, 8), 21)) == expected


@pytest.mark.parametrize(("distance", "same"), [(0, True), (1, True), (24, True), (25, False), (128, False)])
def test_how_far_apart_duplicates_may_be(distance: int, same: bool) -> None:
    for start in (0, 60, 128):  # in one word of 64 bits, over its edge, in another
        (value,) = random_hashes(1, 32, start)
        pair = [value, flipped(value, range(start, start + distance))]
        groups = duplicate_groups(packed(pair, 32), DUPLICATE_BITS)
        assert (groups[0] == groups[1]) == same


def test_a_group_is_named_after_its_first_image() -> None:
    names = duplicates_of(pd.Series(list("abcdefgh")), pd.Series([-1, 4, 2, -1, 2, 4, 4, 0]))
    assert names.tolist() == ["", "b", "c", "", "c", "b", "b", ""]  # what was not read is like nothing


def test_the_mini_sets_have_none(shared: Path) -> None:
    for data_set in (
        ISIC2019(str(shared / "data" / "isic2019_mini"), duplicates="drop"),
        Fitzpatrick17k(str(shared / "data" / "fitzpatrick17k_mini"), duplicates="drop"),
    ):
        health = data_set.health()
        assert health.images_checked
        assert health.duplicates == []
        assert health.dropped == {}
        assert health.leakage == {"train-val": 0, "train-test": 0, "val-test": 0}


def rows_of(root: Path, *rows: str, **options: Any) -> CSVTable:
    (root / "metadata.csv").write_text("\n".join([HEADER, *rows, ""]))
    return CSVTable(root=str(root), **NAMED | options)


@pytest.mark.parametrize("name", ["isic2019_mini", "fitzpatrick17k_mini"])
def test_real_pictures_saved_anew_are_found(shared: Path, tmp_path: Path, name: str) -> None:
    files = sorted((shared / "data" / name / "images").glob("*.jpg"))[5:32]
    rows, planted = [], []
    for number, file in enumerate(files):
        shutil.copy(file, tmp_path / file.name)
        rows.append(f"{file.name},x,{'dl'[number % 2]},test,")
        if number >= 7:
            continue
        image = Image.open(file)
        copies = [f"{number}-quality.jpg", f"{number}-half.jpg", f"{number}.png"]
        image.save(tmp_path / copies[0], quality=50)
        image.resize((image.width // 2, image.height // 2)).save(tmp_path / copies[1], quality=90)
        image.save(tmp_path / copies[2])
        rows += [f"{copies[0]},x,d,val,", f"{copies[1]},x,d,train,", f"{copies[2]},x,l,train,"]
        planted.append({file.name, *copies})
    rows += ["other-train.png,x,l,train,", "other-val.png,x,d,val,"]
    for seed, other in enumerate(["other-train.png", "other-val.png"]):
        picture(tmp_path / other, seed)
    health = rows_of(tmp_path, *rows).health()
    assert [set(group) for group in health.duplicates] == planted
    assert health.leakage == {"train-val": 7, "train-test": 7, "val-test": 7}
    assert health.duplicates_with_other_label == 0
    left = rows_of(tmp_path, *rows, duplicates="drop")
    assert set(left.table()["id"]) == {file.name for file in files} | {"other-train.png", "other-val.png"}
    assert left.health().leakage == {"train-val": 0, "train-test": 0, "val-test": 0}


def picture(path: Path, seed: int) -> None:
    """Noise: like no other of another seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_of_duplicates_the_test_row_is_kept_before_val_and_train(tmp_path: Path) -> None:
    table = {
        "a1": (1, "train"),
        "a2": (1, "val"),
        "a3": (1, "test"),
        "b1": (2, "train"),
        "b2": (2, "val"),
        "c1": (3, "train"),
        "c2": (3, "train"),
        "d1": (4, "val"),
        "d2": (4, "test"),  # of unknown group, and so it is not there to be kept
        "e": (5, "test"),
        "f": (6, "train"),
    }
    for name, (seed, _) in table.items():
        picture(tmp_path / f"{name}.png", seed)
    labels = {"b2": "y", "c2": "y"}
    tones = {"d2": "", "f": "l"}
    rows = [f"{name},{labels.get(name, 'x')},{tones.get(name, 'd')},{split}," for name, (_, split) in table.items()]
    kept = rows_of(tmp_path, *rows, suffix=".png", duplicates="keep")
    assert len(kept.table()) == 10
    data_set = rows_of(tmp_path, *rows, suffix=".png", duplicates="drop")
    assert set(data_set.table()["id"]) == {"a3", "b2", "c1", "d1", "e", "f"}
    health = data_set.health()
    assert health.dropped == {"unknown group": ["d2"], "duplicate": ["a1", "a2", "b1", "c2"]}
    assert health.duplicates == [["a1", "a2", "a3"], ["b1", "b2"], ["c1", "c2"], ["d1", "d2"]]
    assert health.duplicates_with_other_label == 2
    assert health.splits == {"train": 2, "val": 2, "test": 2}


def test_leak_free_keeps_the_same_picture_in_one_split(tmp_path: Path) -> None:
    # 20 pictures twice, 20 once; 18 and 19 share a lesion, so that their copies 58 and 59 go with them
    rows, twins = [], {}
    for number in range(60):
        seed = number % 40
        picture(tmp_path / f"{number}.png", seed)
        twins.setdefault(seed, []).append(f"{number}.png")
        rows.append(f"{number}.png,{'xy'[number % 2]},{'dl'[number % 4 // 2]},,{'L' if number in (18, 19) else ''}")
    torn = 0
    for seed in range(5):
        options = {"split_seed": seed, "val_share": 0.2, "test_share": 0.2}
        table = rows_of(tmp_path, *rows, splits="leak_free", **options).table().set_index("id")["split"]
        assert all(table[names].nunique() == 1 for names in twins.values())
        assert table[["18.png", "19.png", "58.png", "59.png"]].nunique() == 1
        plain = rows_of(tmp_path, *rows, splits="seeded", **options).table().set_index("id")["split"]
        torn += sum(plain[names].nunique() > 1 for names in twins.values())
        leakage = rows_of(tmp_path, *rows, splits="leak_free", **options).health().leakage
        assert leakage == {"train-val": 0, "train-test": 0, "val-test": 0}
    assert torn > 20  # of 100 pairs; dealt one by one, 1 - 0.6**2 - 0.2**2 - 0.2**2 = 0.56 of them


def test_the_unit_is_the_lesion_else_the_duplicates_else_the_image(tmp_path: Path) -> None:
    seeds = {"a": 1, "b": 2, "c": 2, "d": 3, "e": 2, "f": 4, "g": 4}
    for name, seed in seeds.items():
        picture(tmp_path / f"{name}.png", seed)
    rows = (
        *("a,x,d,train,L1", "b,x,l,train,", "c,x,d,val,", "d,x,l,val,"),
        *("e,x,d,test,L1", "f,x,l,test,L2", "g,x,l,test,"),
    )
    data_set = rows_of(tmp_path, *rows, suffix=".png")
    units = dict(zip(data_set.table()["id"], data_set.table()["unit"], strict=True))
    assert units == {"a": "L1", "b": "b", "c": "b", "d": "d", "e": "L1", "f": "L2", "g": "f"}
    from_tables = dict(zip(data_set.rows()["id"], data_set.rows()["unit"], strict=True))
    assert from_tables == {"a": "L1", "b": "b", "c": "c", "d": "d", "e": "L1", "f": "L2", "g": "g"}
    # c is like b of train; e has a's lesion and b's picture; of test, e is like c of val
    assert data_set.health().leakage == {"train-val": 1, "train-test": 1, "val-test": 1}
