"""A folder of images with a table of any columns: which become file, label, group, split and unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scp_ray.config import SweepConfig, TrialConfig
from scp_ray.data.csv_table import CSVTable
from scp_ray.errors import ConfigError, DataError

SPLITS = ("train", "val", "test")
NAMED: dict[str, Any] = {"file": "picture", "label": "finding", "group": "tone", "split": "part"}
HEADER = "picture,finding,tone,part,person"
ROWS = ("a.png,wart,dark,train,P1", "b.png,acne,light,val,", "c.png,wart,light,test,P2", "d.png,mole,dark,train,P1")


def table(root: Path, *lines: str, name: str = "metadata.csv") -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(root)


def pictures(folder: Path, *names: str) -> None:
    """Noise, so that none is like another."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def by_tone(root: Path, tones: tuple[str, ...], **options: Any) -> dict[str, int]:
    """The group code of each tone that is left in the rows; every tone is in every split."""
    lines = [f"{number}-{split}.png,x,{tone},{split}" for number, tone in enumerate(tones) for split in SPLITS]
    data_set = CSVTable(root=table(root, "picture,finding,tone,part", *lines), **NAMED | options)
    codes: dict[str, int] = {}
    for name, code in zip(data_set.rows()["id"], data_set.rows()["tone"], strict=True):
        assert codes.setdefault(tones[int(name.split("-")[0])], int(code)) == code
    return codes


def test_named_columns(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    data_set = CSVTable(root=table(tmp_path, HEADER, *ROWS), unit="person", **NAMED)
    assert data_set.class_names == ("acne", "mole", "wart")
    assert data_set.attribute_names == ("tone",)
    assert data_set.privileged_code is None
    rows = data_set.table()
    assert rows[["id", "unit", "label", "split", "tone", "file"]].values.tolist() == [
        ["a.png", "P1", 2, "train", 0, "a.png"],  # dark before light
        ["d.png", "P1", 1, "train", 0, "d.png"],
        ["b.png", "b.png", 0, "val", 1, "b.png"],
        ["c.png", "P2", 2, "test", 1, "c.png"],
    ]
    assert rows["path"].tolist() == [str(tmp_path / name) for name in ("a.png", "d.png", "b.png", "c.png")]


def test_without_a_unit_column_every_image_is_its_own(tmp_path: Path) -> None:
    rows = CSVTable(root=table(tmp_path, HEADER, *ROWS), **NAMED).rows()
    assert rows["unit"].tolist() == rows["id"].tolist() == ["a.png", "d.png", "b.png", "c.png"]


def test_pixels_labels_and_groups_arrive(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png")
    root = table(tmp_path, HEADER, *ROWS)
    data = CSVTable(root=root, image_size=64, privileged_code=1, **NAMED).load()
    assert (data.name, data.class_names, data.privileged_code) == ("csv", ("acne", "mole", "wart"), 1)
    train = data.splits["train"]
    assert train.id == ("a.png", "d.png")
    assert train.label.tolist() == [2, 1]
    assert train.attributes.tolist() == [[0], [0]]
    for name, image in zip(train.id, train.image, strict=True):
        assert image.permute(1, 2, 0).tolist() == np.asarray(Image.open(tmp_path / name)).tolist()


def test_suffix_images_folder_and_table_file(tmp_path: Path) -> None:
    pictures(tmp_path / "photos" / "2019", "a.png", "b.png", "c.png")
    lines = ("a,x,dark,train", "b,x,light,val", "c,x,light,test")
    root = table(tmp_path, "picture,finding,tone,part", *lines, name="labels.csv")
    for images in ("photos/2019", "photos/2019/"):
        options = NAMED | {"table_file": "labels.csv", "images": images, "suffix": ".png"}
        rows = CSVTable(root=root, **options).table()
        assert rows["id"].tolist() == ["a", "b", "c"]
        assert rows["file"].tolist() == [f"photos/2019/{name}.png" for name in "abc"]


def test_two_values_in_alphabetical_order(tmp_path: Path) -> None:
    assert by_tone(tmp_path, ("light", "dark")) == {"light": 1, "dark": 0}
    assert by_tone(tmp_path, ("light", "", "dark")) == {"light": 1, "dark": 0}
    assert by_tone(tmp_path, ("light", "", "dark"), unknown_group="as_1") == {"light": 1, "": 1, "dark": 0}


def test_values(tmp_path: Path) -> None:
    tones = ("IV", "I", "VI", "", "II")
    assert by_tone(tmp_path, tones, group_values=("IV", "V", "VI")) == {"IV": 1, "I": 0, "VI": 1, "II": 0}
    assert by_tone(tmp_path, tones, group_values=("I",), unknown_group="as_1")[""] == 1


def test_threshold(tmp_path: Path) -> None:
    # as numbers, not as text: "100" and "60.0" come before "9" in the alphabet
    ages = ("9", "59.9", "60", "60.0", "100", "", "-5", "1e2", " 70")
    expected = {"9": 0, "59.9": 0, "60": 1, "60.0": 1, "100": 1, "-5": 0, "1e2": 1, " 70": 1}
    assert by_tone(tmp_path, ages, group_threshold=60.0) == expected
    assert by_tone(tmp_path, ("0", "1", "-1"), group_threshold=0.0) == {"0": 1, "1": 1, "-1": 0}


def test_unknown_cells_are_dropped_by_default(tmp_path: Path) -> None:
    rows = (*ROWS, "e.png,wart,,train,", "f.png,wart,,test,")
    data_set = CSVTable(root=table(tmp_path, HEADER, *rows), **NAMED)
    assert data_set.rows()["id"].tolist() == ["a.png", "d.png", "b.png", "c.png"]
    assert data_set.health(tables_only=True).dropped == {"unknown group": ["e.png", "f.png"]}


def test_classes_are_those_of_the_rows_that_are_used(tmp_path: Path) -> None:
    """Labels that only dropped rows have are none, whyever they were dropped; the others' codes have no hole."""
    pictures(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png", "g.png")
    (tmp_path / "g.png").write_text("no picture")
    pictures(tmp_path / "plain", "a.png", "b.png", "c.png", "d.png")
    rows = (*ROWS, "e.png,boil,,train,", "f.png,corn,dark,train,", "g.png,zoster,dark,test,")
    data_set = CSVTable(root=table(tmp_path, HEADER, *rows), **NAMED)
    assert data_set.class_names == ("acne", "mole", "wart")
    coded = dict(zip(data_set.table()["id"], data_set.table()["label"], strict=True))
    assert coded == {"a.png": 2, "d.png": 1, "b.png": 0, "c.png": 2}
    assert [*data_set.health().classes["train"]] == ["acne", "mole", "wart"]
    assert data_set.identity() == CSVTable(root=table(tmp_path / "plain", HEADER, *ROWS), **NAMED).identity()
    # by the table alone images are not looked at, so corn and zoster are used, too
    told = data_set.health(tables_only=True).classes["train"]
    assert told == {"acne": 0, "corn": 1, "mole": 1, "wart": 1, "zoster": 0}


def test_dealt_splits_need_no_column(tmp_path: Path) -> None:
    lines = [f"{number:03d},{'xy'[number % 2]},{'dl'[number % 4 // 2]},nonsense" for number in range(200)]
    root = table(tmp_path, "picture,finding,tone,part", *lines)
    options = {"file": "picture", "label": "finding", "group": "tone", "splits": "seeded", "root": root}
    without = CSVTable(**options).rows()
    assert without["split"].value_counts().to_dict() == {"train": 160, "val": 20, "test": 20}
    assert CSVTable(**options, split="part").rows()["split"].tolist() == without["split"].tolist()  # it is not read


ERRORS: dict[str, tuple[dict[str, Any], tuple[str, ...] | None, list[str]]] = {
    "no table": ({}, None, ["metadata.csv is not there", "table_file", "relative to"]),
    "columns": (
        {"unit": "person"},
        ("picture,finding,part", "a.png,x,train"),
        ["lacks the columns tone, person.", "It has: picture, finding, part."],
    ),
    "the split's column": ({"split": "fold"}, (HEADER, *ROWS), ["lacks the columns fold."]),
    "three values": (
        {},
        (HEADER, *ROWS, "e.png,wart,brown,train,"),
        ["column tone has 3 values (brown, dark, light)", "group_values: [...]", "group_threshold: ..."],
    ),
    "one value": ({}, (HEADER, ROWS[0]), ["column tone has 1 values (dark)"]),
    "no value": ({}, (HEADER, "a.png,wart,,train,"), ["column tone has 0 values ()"]),
    "many values": (
        {},
        (HEADER, *(f"{number},wart,{number:02d},train," for number in range(12))),
        ["column tone has 12 values (00, 01, 02, 03, 04, 05, 06, 07, 08, 09, ...)"],
    ),
    "no number": (
        {"group_threshold": 3.0},
        (HEADER, "a.png,wart,4,train,", "b.png,wart,four,train,", "c.png,wart,,train,", "d.png,wart,nan,train,"),
        ["column tone is no number in 2 rows (b.png, d.png), but group_threshold is 3.", "group_values"],
    ),
    "all at once": (
        {},
        (HEADER, *ROWS, "a.png,wart,dark,train,", ",acne,dark,val,", "e.png,,dark,training,"),
        [
            "column picture is empty in 1 row (without a name).",
            "column picture has 1 id more than once (a.png).",
            "column finding is empty in 1 row (e.png).",
            "column part is 'training' in 1 row (e.png). Allowed are train, val, test.",
        ],
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_the_table(name: str, tmp_path: Path) -> None:
    options, lines, expected = ERRORS[name]
    if lines is not None:
        table(tmp_path, *lines)
    with pytest.raises(DataError) as caught:
        CSVTable(root=str(tmp_path), **NAMED | options).rows()
    for part in [*expected, str(tmp_path)]:
        assert part in str(caught.value)


def test_no_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"root: .*nowhere does not exist"):
        CSVTable(root=str(tmp_path / "nowhere"), **NAMED).rows()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"split": ""}, ["split: missing; name the column that says train, val or test, or use splits: seeded."]),
        ({"group_threshold": 3.0, "group_values": ("a",)}, ["group_threshold and group_values are both given"]),
        ({"group_threshold": 0.0, "group_values": ("a",)}, ["group_threshold and group_values are both given"]),
        ({"group": "label"}, ["group: a column named 'label' cannot be told from scp_ray's own; rename it."]),
        ({"split": "", "group": "split"}, ["split: missing", "group: a column named 'split'"]),
        ({"val_share": 0.5, "test_share": 0.5}, ["val_share: 0.5 and test_share: 0.5 leave nothing to train on"]),
    ],
)
def test_errors_of_the_options(options: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        CSVTable(root=str(tmp_path), **NAMED | options)
    assert len(caught.value.faults) == len(expected)
    for fault, part in zip(caught.value.faults, expected, strict=True):
        assert fault.startswith(part)


@pytest.mark.parametrize(
    "name",
    [
        *("path", "digest", "kind", "rotated", "problem", "truncated"),
        *("duplicate", "lesion", "unknown", "dropped", "image"),
    ],
)
def test_a_group_named_like_a_column_of_ours(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rename it"):
        CSVTable(root=str(tmp_path), **NAMED | {"group": name})


YAML = """
name: own-folder
trial:
  dataset:
    name: csv
    root: {root}
    file: picture
    label: finding
    group: tone
    split: part
    {rule}
    privileged_code: 0
  backbone: tiny
  pr_c: 0.1
"""


@pytest.mark.parametrize(
    ("rule", "dark"),
    [("group_values: [IV, V]", {"2": 0, "IV": 1, "V": 1, "5": 0}), ("group_values: ['5', V]", {"5": 1, "V": 1})],
)
def test_from_yaml(read: Callable[..., dict[str, Any]], tmp_path: Path, rule: str, dark: dict[str, int]) -> None:
    tones = ("2", "IV", "V", "5")
    lines = [f"{tone}-{split},x,{tone},{split}" for tone in tones for split in SPLITS]
    root = table(tmp_path / "own", "picture,finding,tone,part", *lines)
    (data_set,) = SweepConfig.from_dict(read(YAML.format(root=root, rule=rule))).data_sets()
    assert isinstance(data_set, CSVTable)
    assert data_set.privileged_code == 0
    rows = data_set.rows()
    assert rows["tone"].tolist() == [dark.get(name.split("-")[0], 0) for name in rows["id"]]


def test_from_yaml_with_a_whole_threshold(read: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    lines = [f"{age}-{split},x,{age},{split}" for age in (59, 60) for split in SPLITS]
    root = table(tmp_path / "own", "picture,finding,tone,part", *lines)
    (data_set,) = SweepConfig.from_dict(read(YAML.format(root=root, rule="group_threshold: 60"))).data_sets()
    assert data_set.rows()["tone"].tolist() == [0, 1] * 3


def test_faults_from_a_definition() -> None:
    raw = {"name": "csv", "root": "r", "file": "f", "label": "l", "group": "g", "group_values": [4, 5], "fiel": "x"}
    with pytest.raises(ConfigError) as caught:
        TrialConfig.from_dict({"dataset": raw, "backbone": "tiny", "pr_c": 0.1})
    text = str(caught.value)
    assert "dataset.group_values: got" in text
    assert "allowed is a list, each text." in text
    assert "dataset.fiel: unknown key. Did you mean 'file'?" in text
    with pytest.raises(ConfigError) as caught:
        TrialConfig.from_dict({"dataset": {"name": "csv", "root": "r"}, "backbone": "tiny", "pr_c": 0.1})
    missing = [fault.split(": missing")[0] for fault in caught.value.faults]
    assert missing == ["trial.dataset.file", "trial.dataset.label", "trial.dataset.group"]


@pytest.mark.parametrize("rule", [{"group_values": ("Drak",)}, {"group_threshold": 99.0}])
def test_a_rule_that_makes_one_group_is_refused(tmp_path: Path, rule: dict[str, Any]) -> None:
    (tmp_path / "metadata.csv").write_text("file,label,group\na.png,x,1\nb.png,y,2\n")
    data_set = CSVTable(str(tmp_path), file="file", label="label", group="group", splits="seeded", **rule)
    with pytest.raises(DataError, match=r"column group gives one group only; its values are 1, 2\."):
        data_set.listed()


def test_further_attributes(tmp_path: Path) -> None:
    """Codes follow the alphabet, and more than two are allowed; who lacks one is dropped, or becomes 1."""
    header = "picture,finding,tone,part,site"
    lines = [f"{split}-{site}.png,x,{tone},{split},{site}" for split in SPLITS
             for tone, site in (("dark", "arm"), ("light", "leg"), ("light", "back"), ("dark", ""))]  # fmt: skip
    root = table(tmp_path, header, *lines)
    data_set = CSVTable(root=root, also=("site",), **NAMED)
    assert data_set.attribute_names == ("tone", "site")
    rows = data_set.rows()
    assert rows[rows["split"] == "val"][["tone", "site"]].values.tolist() == [[0, 0], [1, 2], [1, 1]]
    kept = CSVTable(root=root, also=("site",), unknown_group="as_1", **NAMED).rows()
    assert kept[kept["split"] == "val"][["tone", "site"]].values.tolist() == [[0, 0], [1, 2], [1, 1], [0, 1]]


def test_further_attributes_that_cannot_be(tmp_path: Path) -> None:
    root = table(tmp_path, "picture,finding,tone,part,site", "a.png,x,dark,train,arm", "b.png,x,light,val,arm")
    with pytest.raises(ConfigError, match="also: tone is named more than once"):
        CSVTable(root=root, also=("tone",), **NAMED)
    with pytest.raises(DataError, match="column site has 1 values; groups need at least two"):
        CSVTable(root=root, also=("site",), **NAMED).rows()
    with pytest.raises(DataError, match="nowhere"):
        CSVTable(root=root, also=("nowhere",), **NAMED).rows()
