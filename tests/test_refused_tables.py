"""Tables that cannot be used: what is wrong is named, with the rows and the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
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

from scp_ray.data.base import datasets
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.errors import DataError

Lines = tuple[str, ...]
ISIC_BARE = "image,lesion_id,low,gender"
MANY = tuple(f"m{row:02d},L,0,0,train" for row in range(12))

ERRORS: dict[str, tuple[str, dict[str, Lines] | None, list[str]]] = {
    "no root": ("isic2019", None, ["does not exist", "images/"]),
    "no table": ("isic2019", {}, ["metadata.csv", *ISIC_TABLES.values()]),
    "no table, Fitzpatrick": ("fitzpatrick17k", {}, ["metadata.csv", *FITZPATRICK_TABLES.values()]),
    "one of three tables": (
        "isic2019",
        {ISIC_TABLES["train"]: (ISIC_BARE, "a,,0,0")},
        [f"it lacks {ISIC_TABLES['val']}, {ISIC_TABLES['test']}."],
    ),
    "empty file": ("isic2019", {"metadata.csv": ()}, ["metadata.csv cannot be read", "UTF-8"]),
    "columns": (
        "isic2019",
        {"metadata.csv": ("image,lesion_id,split,sex", "a,,train,0")},
        ["lacks the columns low, gender.", "It has: image, lesion_id, split, sex."],
    ),
    "column of a published table": (
        "fitzpatrick17k",
        {
            FITZPATRICK_TABLES["train"]: ("md5hash,fitzpatrick_scale,label", "a,1,x"),
            FITZPATRICK_TABLES["val"]: ("hash", "a"),
            FITZPATRICK_TABLES["test"]: ("md5hash", "a"),
        },
        ["fitzpatrick17k_vali.csv lacks the columns md5hash.", "It has: hash."],
    ),
    "no split column": ("isic2019", {"metadata.csv": (ISIC_BARE, "a,,0,0")}, ["lacks the columns split."]),
    "label, group and split at once": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, *ISIC_ROWS, "d,,8,0,train", "e,,8,2,train", "f,,,,valid")},
        [
            "column low is '8' in 2 rows (d, e). Allowed are 0, 1, 2, 3, 4, 5, 6, 7.",
            "column low is '' in 1 row (f).",
            "column gender is '2' in 1 row (e). Allowed are 0, 1, an empty cell.",
            "column split is 'valid' in 1 row (f). Allowed are train, val, test.",
        ],
    ),
    "many rows": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, *(row.replace(",0,0,", ",9,0,") for row in MANY))},
        ["column low is '9' in 12 rows (m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more)."],
    ),
    "many values": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, *(f"m{row},L,{row + 20},0,train" for row in range(13)))},
        ["column low is '20' in 1 row (m0).", "column low has 3 more values that are not allowed."],
    ),
    "a number with a point": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, "a,,0.0,0,train")},
        ["column low is '0.0' in 1 row (a)."],
    ),
    "a short row": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, *ISIC_ROWS, "d,L4")},
        ["column low is '' in 1 row (d).", "column split is '' in 1 row (d)."],
    ),
    "skin type and label": (
        "fitzpatrick17k",
        {"metadata.csv": (FITZPATRICK_HEADER, *FITZPATRICK_ROWS, "d,7,acne,train", "e,0,,train")},
        [
            "column fitzpatrick_scale is '7' in 1 row (d). Allowed are 1, 2, 3, 4, 5, 6, -1.",
            "column fitzpatrick_scale is '0' in 1 row (e).",
            "column label is empty in 1 row (e).",
        ],
    ),
    "an image without a name": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, *ISIC_ROWS, ",,0,0,train", ",,0,0,train")},
        ["column image is empty in 2 rows (without a name, without a name)."],
    ),
    "an image twice": (
        "isic2019",
        {"metadata.csv": (ISIC_HEADER, *ISIC_ROWS, "a,L1,0,0,train", "a,L1,0,0,test", "c,L3,3,1,test")},
        ["column image has 2 ids more than once (a, c).", "in one split"],
    ),
    "an image in two tables": (
        "isic2019",
        {
            ISIC_TABLES["train"]: (ISIC_BARE, "a,,0,0"),
            ISIC_TABLES["val"]: (ISIC_BARE, "b,,0,0"),
            ISIC_TABLES["test"]: (ISIC_BARE, "a,,0,0"),
        },
        ["column image has 1 id more than once (a)."],
    ),
    "a picture in val and test, and a stranger": (
        "fitzpatrick17k",
        {
            FITZPATRICK_TABLES["train"]: ("md5hash,fitzpatrick_scale,label", "a,1,x", "b,1,x"),
            FITZPATRICK_TABLES["val"]: ("md5hash", "a", "q"),
            FITZPATRICK_TABLES["test"]: ("md5hash", "a"),
        },
        [
            "fitzpatrick17k_vali.csv lists 1 image that fitzpatrick17k.csv does not (q).",
            "fitzpatrick17k_vali.csv and fitzpatrick17k_test.csv share 1 image (a).",
        ],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_table_errors(name: str, tmp_path: Path) -> None:
    plugin, files, expected = ERRORS[name]
    root = tmp_path / "root"
    if files is not None:
        root.mkdir()
        for file, lines in files.items():
            write(root / file, *lines)
    data_set: Any = datasets.get(plugin)(root=str(root))  # type: ignore[call-arg]
    with pytest.raises(DataError) as caught:
        data_set.rows()
    for part in [*expected, str(root)]:
        assert part in str(caught.value)


def test_root_that_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "file")
    with pytest.raises(DataError, match="file is not a folder"):
        ISIC2019(str(tmp_path / "file")).rows()


def test_a_table_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes(b"image,low\n\xff\xfe\xfa,1\n")
    with pytest.raises(DataError, match=r"metadata.csv cannot be read"):
        ISIC2019(str(tmp_path)).rows()


def test_images_are_looked_for_in_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_set = ISIC2019(str(folder(tmp_path, ISIC_HEADER, (*MANY, "v,,0,0,val", "t,,0,0,test"))))
    looks: list[str] = []
    original = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **rest: looks.append(str(path)) or original(path, **rest))
    assert len(data_set.table()) == 14
    assert looks  # of folders
    assert not [path for path in looks if path.endswith(".jpg")]


def test_a_split_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"isic2019 at .* has no test rows; of 2 listed rows 2 can be used"):
        ISIC2019(str(folder(tmp_path, ISIC_HEADER, ISIC_ROWS[:2])), image_size=8).load()


def test_a_split_whose_rows_are_all_dropped(tmp_path: Path) -> None:
    rows = (*ISIC_ROWS[:2], "c,L3,3,,test")
    with pytest.raises(DataError, match=r"has no test rows; of 3 listed rows 2 can be used"):
        ISIC2019(str(folder(tmp_path, ISIC_HEADER, rows))).table()
