"""ISIC 2019 and Fitzpatrick-17k as their tables have them: counts, codes, identity."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_tables import (
    FITZPATRICK_HEADER,
    FITZPATRICK_ROWS,
    FITZPATRICK_TABLES,
    ISIC_HEADER,
    ISIC_ROWS,
    ISIC_TABLES,
    folder,
    write,
)

from scp_ray.data.base import table_digest, units_digest
from scp_ray.data.fitzpatrick17k import Fitzpatrick17k
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.errors import ConfigError, DataError

DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_split(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[table["split"] == split]


@pytest.fixture
def published(shared: Path) -> Path:
    """The published tables, without images."""
    return shared / "data" / "metadata"


def test_isic_published_counts(published: Path) -> None:
    rows = ISIC2019(str(published)).rows()
    assert Counter(rows["split"]) == {"train": 14_904, "val": 4_965, "test": 4_971}
    assert Counter(of_split(rows, "test")["sex"]) == {0: 2_312, 1: 2_659}
    cells = Counter(zip(of_split(rows, "test")["label"], of_split(rows, "test")["sex"], strict=True))
    assert len(cells) == 16
    assert min((count, cell) for cell, count in cells.items()) == (19, (5, 1))  # DF, male


def test_isic_published_rows_by_csv(published: Path) -> None:
    source = [row | {"split": split} for split, name in ISIC_TABLES.items() for row in read(published / name)]
    rows = ISIC2019(str(published)).rows()
    assert list(rows.columns) == ["id", "unit", "label", "split", "sex", "file", "digest"]
    assert rows["id"].tolist() == [row["image"] for row in source]
    assert rows["file"].tolist() == [f"images/{row['image']}.jpg" for row in source]
    assert set(rows["digest"]) == {""}  # nobody looked at the images
    assert rows["unit"].tolist() == [row["lesion_id"] or row["image"] for row in source]
    assert any(not row["lesion_id"] for row in source)
    assert rows["split"].tolist() == [row["split"] for row in source]
    # two other columns say the same as `low` and `gender`: the one-hot diagnosis and the word
    hot = [[row[name] for name in DIAGNOSES].index("1.0") for row in source]
    assert ISIC2019.class_names == DIAGNOSES
    assert rows["label"].tolist() == hot
    assert rows["sex"].tolist() == [{"female": 0, "male": 1}[row["sex"]] for row in source]
    assert ISIC2019(str(published)).attribute_names == ("sex",)
    assert ISIC2019(str(published)).privileged_code == 0


@pytest.mark.parametrize("where", ["metadata", "isic2019_mini"])
def test_isic_by_age(shared: Path, where: str) -> None:
    root = shared / "data" / where
    source = {row["image"]: row for path in root.glob("*.csv") for row in read(path) if "age_binary" in row}
    data_set = ISIC2019(str(root), sensitive="age")
    rows = data_set.rows()
    assert len(rows) == len(source) == {"metadata": 24_840, "isic2019_mini": 1_200}[where]
    assert rows["age"].tolist() == [int(float(source[name]["age_approx"]) < 60) for name in rows["id"]]
    assert rows["age"].tolist() == [int(float(source[name]["age_binary"])) for name in rows["id"]]
    assert rows["label"].tolist() == [int(source[name]["low"]) for name in rows["id"]]
    assert "sex" not in rows
    assert data_set.attribute_names == ("age",)


def test_isic_published_counts_by_age(published: Path) -> None:
    data_set = ISIC2019(str(published), sensitive="age")
    rows = data_set.rows()
    assert Counter(zip(rows["split"], rows["age"], strict=True)) == {
        ("train", 0): 6_470,
        ("train", 1): 8_434,
        ("val", 0): 2_154,
        ("val", 1): 2_811,
        ("test", 0): 2_159,
        ("test", 1): 2_812,
    }
    assert data_set.privileged_code == 1  # the younger, who are the majority


def test_isic_published_test_shares_lesions_with_train(published: Path) -> None:
    rows = ISIC2019(str(published)).rows()
    shared_units = of_split(rows, "test")["unit"].isin(of_split(rows, "train")["unit"])
    assert int(shared_units.sum()) == 2_210
    assert not of_split(rows, "test")["id"].isin(of_split(rows, "train")["id"]).any()


def test_fitzpatrick_published_counts(published: Path) -> None:
    data_set = Fitzpatrick17k(str(published))
    rows = data_set.rows()
    assert len(rows) == 16_577
    assert Counter(rows["split"]) == {"train": 13_263, "val": 1_657, "test": 1_657}
    assert len(data_set.class_names) == 114
    test = of_split(rows, "test")
    assert Counter(test["skin_type"]) == {0: 1_126, 1: 477 + 54}
    assert test.loc[test["skin_type"] == 0, "label"].nunique() == 114
    assert test.loc[test["skin_type"] == 1, "label"].nunique() == 114 - 16
    assert data_set.privileged_code == 1


def test_fitzpatrick_published_rows_by_csv(published: Path) -> None:
    rows = Fitzpatrick17k(str(published)).rows().set_index("id")
    whole = {row["md5hash"]: row for row in read(published / FITZPATRICK_TABLES["train"])}
    assert set(rows.index) == set(whole)
    held_out = set()
    for split in ("val", "test"):
        listed = read(published / FITZPATRICK_TABLES[split])
        names = [row["md5hash"] for row in listed]
        held_out |= set(names)
        assert set(rows.index[rows["split"] == split]) == set(names)
        assert rows.loc[names, "label"].tolist() == [int(row["low"]) for row in listed]
    assert set(rows.index[rows["split"] == "train"]) == set(whole) - held_out
    types = [int(whole[name]["fitzpatrick_scale"]) for name in rows.index]
    assert Counter(types)[-1] == 565
    assert rows["skin_type"].tolist() == [0 if kind in (1, 2, 3) else 1 for kind in types]
    assert rows["unit"].tolist() == rows.index.tolist()
    names = Fitzpatrick17k(str(published)).class_names
    assert [names[code] for code in rows["label"]] == [whole[name]["label"] for name in rows.index]


@pytest.mark.parametrize(
    ("level", "code", "name", "classes"),
    [("mid", "mid", "nine_partition_label", 9), ("high", "high", "three_partition_label", 3)],
)
def test_fitzpatrick_label_levels_by_csv(published: Path, level: Any, code: str, name: str, classes: int) -> None:
    data_set = Fitzpatrick17k(str(published), label_level=level)
    rows, names = data_set.rows().set_index("id"), data_set.class_names
    assert len(names) == len(set(names)) == classes
    for split in ("val", "test"):  # their tables have the codes, the annotations have the names
        listed = read(published / FITZPATRICK_TABLES[split])
        assert len(listed) == 1_657
        assert rows.loc[[row["md5hash"] for row in listed], "label"].tolist() == [int(row[code]) for row in listed]
    annotations = read(published / FITZPATRICK_TABLES["train"])
    labels = rows.loc[[row["md5hash"] for row in annotations], "label"]
    assert [names[label] for label in labels] == [row[name] for row in annotations]


def test_fitzpatrick_unknown_types(published: Path) -> None:
    unknown = {row["md5hash"] for row in read(published / "fitzpatrick17k.csv") if row["fitzpatrick_scale"] == "-1"}
    assert len(unknown) == 565
    default = Fitzpatrick17k(str(published)).rows()
    as_1 = Fitzpatrick17k(str(published), unknown_group="as_1").rows()
    known = Fitzpatrick17k(str(published), unknown_group="drop").rows()
    pd.testing.assert_frame_equal(as_1, default)
    assert set(as_1.loc[as_1["id"].isin(unknown), "skin_type"]) == {1}
    assert Counter(known["split"]) == {"train": 13_263 - 449, "val": 1_657 - 62, "test": 1_657 - 54}
    pd.testing.assert_frame_equal(known, as_1[~as_1["id"].isin(unknown)].reset_index(drop=True))


def test_published_tables_without_images(published: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 24,840 images.*images/ISIC_0000000\.jpg\. Bring them"):
        ISIC2019(str(published)).table()


def test_isic_mini_counts(shared: Path) -> None:
    root = shared / "data" / "isic2019_mini"
    table = ISIC2019(str(root)).table()
    assert Counter(zip(table["split"], table["sex"], strict=True)) == {
        ("train", 0): 327,
        ("train", 1): 381,
        ("val", 0): 113,
        ("val", 1): 133,
        ("test", 0): 113,
        ("test", 1): 133,
    }
    female = {"AK": 39, "BCC": 82, "BKL": 82, "DF": 52, "MEL": 81, "NV": 81, "SCC": 67, "VASC": 69}
    names = [DIAGNOSES[code] for code in table.loc[table["sex"] == 0, "label"]]
    assert Counter(names) == female
    assert table["unit"].nunique() == 1_051
    assert (table.groupby("unit")["split"].nunique() == 1).all()
    assert all(Path(path).is_file() for path in table["path"])
    assert table["split"].tolist() == ["train"] * 708 + ["val"] * 246 + ["test"] * 246


def test_fitzpatrick_mini_counts(shared: Path) -> None:
    data = Fitzpatrick17k(str(shared / "data" / "fitzpatrick17k_mini"), image_size=16).load()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 234, "val": 68, "test": 52}
    groups = torch.cat([split.attributes[:, 0] for split in data.splits.values()])
    # benign, malignant, non-neoplastic
    assert int((groups == 0).sum()) == (4 + 20 + 13) + (28 + 34 + 34) + (14 + 30 + 29)
    assert int((groups == 1).sum()) == (23 + 6 + 4) + (40 + 31 + 10) + (19 + 9 + 6)
    assert data.num_classes == 17
    assert data.splits["val"].image.shape == (68, 3, 16, 16)
    assert data.splits["val"].image.dtype == torch.uint8
    assert data.splits["val"].image.float().std() > 10


def test_isic_from_metadata(tmp_path: Path) -> None:
    first, second, third = ISIC_ROWS
    table = ISIC2019(str(folder(tmp_path, ISIC_HEADER, (third, second, first)))).table()  # in any order
    assert table[["id", "unit", "label", "split", "sex"]].values.tolist() == [
        ["a", "L1", 0, "train", 0],
        ["b", "b", 7, "val", 1],
        ["c", "L3", 3, "test", 1],
    ]
    assert table["file"].tolist() == [f"images/{name}.jpg" for name in "abc"]
    assert table["path"].tolist() == [str(tmp_path / "images" / f"{name}.jpg") for name in "abc"]
    contents = [Path(path).read_bytes() for path in table["path"]]
    assert table["digest"].tolist() == [hashlib.blake2b(content, digest_size=16).hexdigest() for content in contents]


def test_rows_of_a_split_keep_their_order(tmp_path: Path) -> None:
    rows = ("d,,0,0,test", "a,,0,0,train", "c,,0,0,val", "e,,0,0,train", "b,,0,0,train", "f,,0,0,test")
    write(tmp_path / "metadata.csv", ISIC_HEADER, *rows)
    assert ISIC2019(str(tmp_path)).rows()["id"].tolist() == ["a", "e", "b", "c", "d", "f"]


def test_fitzpatrick_from_metadata(tmp_path: Path) -> None:
    data_set = Fitzpatrick17k(str(folder(tmp_path, FITZPATRICK_HEADER, FITZPATRICK_ROWS)))
    assert data_set.class_names == ("acne", "eczema", "psoriasis")
    assert data_set.table()[["id", "unit", "label", "split", "skin_type"]].values.tolist() == [
        ["a", "a", 2, "train", 0],
        ["b", "b", 0, "val", 1],
        ["c", "c", 1, "test", 1],
    ]


def test_an_empty_gender_is_unknown(tmp_path: Path) -> None:
    root = str(folder(tmp_path, ISIC_HEADER, (*ISIC_ROWS, "d,L4,2,,train", "e,,5,,test")))
    assert ISIC2019(root).table()["id"].tolist() == ["a", "b", "c"]
    kept = ISIC2019(root, unknown_group="as_1").table()
    assert dict(zip(kept["id"], kept["sex"], strict=True)) == {"a": 0, "d": 1, "b": 1, "c": 1, "e": 1}


def test_missing_and_unreadable_images_are_dropped(tmp_path: Path) -> None:
    root = folder(tmp_path, ISIC_HEADER, (*ISIC_ROWS, "gone,,0,0,train", "torn,,1,1,test"))
    (root / "images" / "gone.jpg").unlink()
    (root / "images" / "torn.jpg").write_text("no picture")
    assert ISIC2019(str(root)).rows()["id"].tolist() == ["a", "gone", "b", "c", "torn"]
    assert ISIC2019(str(root)).table()["id"].tolist() == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"since strict is true(.|\n)*gone(.|\n)*torn"):
        ISIC2019(str(root), strict=True).table()


def test_fitzpatrick_from_three_tables(tmp_path: Path) -> None:
    write(tmp_path / "fitzpatrick17k.csv", "md5hash,fitzpatrick_scale,label", "a,1,x", "b,4,y", "c,3,x", "d,-1,z")
    write(tmp_path / "fitzpatrick17k_vali.csv", "md5hash", "c")
    write(tmp_path / "fitzpatrick17k_test.csv", "md5hash", "a")
    rows = Fitzpatrick17k(str(tmp_path)).rows()
    assert dict(zip(rows["id"], rows["split"], strict=True)) == {"a": "test", "b": "train", "c": "val", "d": "train"}
    assert dict(zip(rows["id"], rows["label"], strict=True)) == {"a": 0, "b": 1, "c": 0, "d": 2}


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    data_set = Fitzpatrick17k(str(folder(tmp_path, FITZPATRICK_HEADER, FITZPATRICK_ROWS)))
    assert data_set.class_names == ("acne", "eczema", "psoriasis")
    write(tmp_path / "metadata.csv", FITZPATRICK_HEADER, "a,1,a much longer name,train")
    assert data_set.class_names == ("a much longer name",)


def test_a_table_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_set = Fitzpatrick17k(str(folder(tmp_path, FITZPATRICK_HEADER, FITZPATRICK_ROWS)))
    paths: list[Any] = []
    original = pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda path, **options: paths.append(path) or original(path, **options))
    for _ in range(3):
        data_set.rows()
        assert len(data_set.class_names) == 3
    assert len(paths) == 1


def test_root_survives_another_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "here", ISIC_HEADER, ISIC_ROWS)
    monkeypatch.chdir(tmp_path)
    data_set = ISIC2019("here")
    monkeypatch.chdir(os.sep)
    assert data_set.root == str(tmp_path / "here")
    assert len(data_set.table()) == 3
    assert data_set == ISIC2019(str(tmp_path / "here"))


def test_table_digest_by_hand() -> None:
    table = pd.DataFrame(
        {
            "path": ["/x/a.jpg", "/x/b.jpg"],
            "split": ["train", "test"],
            "sex": [0, 1],
            "label": [3, 12],
            "unit": ["L", "M"],
            "id": ["a", "b"],
        }
    )
    expected = hashlib.sha256(b"a\x1f3\x1f0\x1ftrain\x1eb\x1f12\x1f1\x1ftest\x1e").hexdigest()
    assert table_digest(table, ("sex",)) == expected


def test_units_digest_by_hand() -> None:
    table = pd.DataFrame({"id": ["a", "b", "c"], "unit": ["L", "L", "c"]})
    assert units_digest(table) == hashlib.sha256(b"L\x1eL\x1ec").hexdigest()
    assert units_digest(table.assign(unit=table["id"])) == ""


def test_identity_knows_no_paths_but_every_value(tmp_path: Path) -> None:
    first = ISIC2019(str(folder(tmp_path / "one", ISIC_HEADER, ISIC_ROWS))).identity()
    assert ISIC2019(str(folder(tmp_path / "two", ISIC_HEADER, ISIC_ROWS))).identity() == first
    changed = (ISIC_ROWS[0].replace("a,L1,0,0", "a,L1,0,1"), *ISIC_ROWS[1:])
    assert ISIC2019(str(folder(tmp_path / "three", ISIC_HEADER, changed))).identity() != first
    assert ISIC2019(str(tmp_path / "one"), image_size=64).identity() != first
    moved = (*ISIC_ROWS[:2], ISIC_ROWS[2].replace("test", "val"), "d,L3,3,1,test")
    same = (*ISIC_ROWS, "d,L3,3,1,test")
    identities = [
        ISIC2019(str(folder(tmp_path / name, ISIC_HEADER, rows))).identity()
        for name, rows in {"four": moved, "five": same}.items()
    ]
    assert identities[0] != identities[1]


def test_classes_that_no_row_has_count_where_the_table_does_not_tell(tmp_path: Path) -> None:
    """Of acne, eczema and psoriasis all have rows; vitiligo would be a fourth output, and has none."""
    known = ("a,1,psoriasis,train", "b,4,acne,val", "c,6,eczema,test")
    plain, more = (
        Fitzpatrick17k(str(folder(tmp_path / name, FITZPATRICK_HEADER, rows)), unknown_group="drop").identity()
        for name, rows in (("plain", known), ("more", (*known, "d,-1,vitiligo,train")))
    )
    assert set(plain) == {"table", "image_size", "decode"}
    assert more == plain | {"classes": 4}


def test_isic_by_both(shared: Path) -> None:
    """The first is the group; a row of the other order is the same picture with its columns swapped."""
    root = str(shared / "data" / "isic2019_mini")
    both = ISIC2019(root, also=("age",))
    assert both.attribute_names == ("sex", "age")
    assert both.privileged_code == 0
    rows = both.rows()
    assert rows["sex"].tolist() == ISIC2019(root).rows()["sex"].tolist()
    assert rows["age"].tolist() == ISIC2019(root, sensitive="age").rows()["age"].tolist()
    assert ISIC2019(root, sensitive="age", also=("sex",)).attribute_names == ("age", "sex")
    with pytest.raises(ConfigError, match="also: sex is named more than once"):
        ISIC2019(root, also=("sex",))
