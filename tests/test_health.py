"""What is said of a data set before anything is trained, and `scp-ray data`, which says it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scp_ray.cli.main import main
from scp_ray.data.csv_table import CSVTable
from scp_ray.data.fitzpatrick17k import Fitzpatrick17k
from scp_ray.data.health import Health
from scp_ray.data.isic2019 import ISIC2019
from scp_ray.errors import DataError

SPLITS = ("train", "val", "test")
DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
HEADER = "picture,finding,tone,part,lesion_id"
NAMED: dict[str, Any] = {"file": "picture", "label": "finding", "group": "tone", "split": "part", "unit": "lesion_id"}
NO_LEAKAGE = {"train-val": 0, "train-test": 0, "val-test": 0}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def own(root: Path, *rows: str, **options: Any) -> CSVTable:
    (root / "metadata.csv").write_text("\n".join([HEADER, *rows, ""]))
    return CSVTable(root=str(root), **NAMED | options)


def noise(seed: int, height: int = 64, width: int = 64) -> Image.Image:
    """Like no other of another seed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def check_counts(health: Health, rows: list[tuple[str, str, int]], names: list[str]) -> None:
    """Against rows of (split, class, group), counted here."""
    cells = Counter(rows)
    assert health.splits == {split: sum(row[0] == split for row in rows) for split in SPLITS}
    assert list(health.classes) == list(health.groups) == list(SPLITS)
    for split in SPLITS:
        both = {name: (cells[split, name, 0], cells[split, name, 1]) for name in names}
        assert health.classes[split] == {name: sum(counts) for name, counts in both.items()}
        assert health.groups[split] == {code: sum(counts[code] for counts in both.values()) for code in (0, 1)}
        absent = {(name, code) for name in names for code in (0, 1) if both[name][code] == 0}
        assert set(health.absent_cells[split]) == absent
        assert len(health.absent_cells[split]) == len(absent)
        thin = {(name, code, both[name][code]) for name in names for code in (0, 1) if both[name][code] in (1, 2, 3, 4)}
        assert set(health.thin_cells[split]) == thin


def test_published_isic(published: Path) -> None:
    source = {split: read(published / f"isic2019_{split}_pretraining.csv") for split in SPLITS}
    health = ISIC2019(str(published)).health(tables_only=True)
    rows = [
        (split, next(name for name in DIAGNOSES if row[name] == "1.0"), {"female": 0, "male": 1}[row["sex"]])
        for split, listed in source.items()
        for row in listed
    ]
    check_counts(health, rows, list(DIAGNOSES))
    assert (health.listed, health.images_checked) == (24_840, False)
    assert not any(health.absent_cells.values())
    assert not any(health.thin_cells.values())
    lesions = {split: {row["lesion_id"] for row in listed} - {""} for split, listed in source.items()}
    assert health.leakage == {
        f"{first}-{second}": sum(row["lesion_id"] in lesions[first] for row in source[second])
        for first, second in (("train", "val"), ("train", "test"), ("val", "test"))
    }
    assert health.leakage == {"train-val": 2_239, "train-test": 2_210, "val-test": 1_234}
    assert health.unknown_group == {"train": 0, "val": 0, "test": 0}
    assert (health.dropped, health.duplicates, health.missing, health.unreadable) == ({}, [], [], {})


@pytest.mark.parametrize("rule", ["as_1", "drop"])
def test_published_fitzpatrick(published: Path, rule: Any) -> None:
    annotations = read(published / "fitzpatrick17k.csv")
    held_out = {
        row["md5hash"]: split
        for split, name in {"val": "vali", "test": "test"}.items()
        for row in read(published / f"fitzpatrick17k_{name}.csv")
    }
    unknown_code = 1 if rule == "as_1" else None
    group = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 1, "6": 1, "-1": unknown_code}
    rows = [
        (held_out.get(row["md5hash"], "train"), row["label"], group[row["fitzpatrick_scale"]]) for row in annotations
    ]
    health = Fitzpatrick17k(str(published), unknown_group=rule).health(tables_only=True)
    used = [(split, name, code) for split, name, code in rows if code is not None]
    check_counts(health, used, sorted({row["label"] for row in annotations}))
    assert health.listed == 16_577
    assert health.unknown_group == {"train": 449, "val": 62, "test": 54}
    assert health.leakage == NO_LEAKAGE
    absent = Counter(code for _, code in health.absent_cells["test"])
    if rule == "as_1":
        assert absent == {1: 16}
        assert health.unknown_rule == "coded as 1"
        assert health.dropped == {}
    else:
        assert absent == {1: 20}
        assert health.unknown_rule == "dropped"
        names = [row["md5hash"] for row in annotations if row["fitzpatrick_scale"] == "-1"]
        assert health.dropped == {"unknown group": names}


def test_empty_and_thin_cells_by_hand(tmp_path: Path) -> None:
    cells = {
        ("train", "wart", "d"): 5,
        ("train", "wart", "l"): 4,
        ("train", "mole", "d"): 6,
        ("val", "wart", "d"): 1,
        ("val", "mole", "l"): 2,
        ("test", "mole", "d"): 5,
    }
    rows = [
        f"{split}-{name}-{tone}-{number},{name},{tone},{split},"
        for (split, name, tone), count in cells.items()
        for number in range(count)
    ]
    health = own(tmp_path, *rows).health(tables_only=True)
    assert health.splits == {"train": 15, "val": 3, "test": 5}
    assert health.classes["train"] == {"mole": 6, "wart": 9}
    assert health.groups == {"train": {0: 11, 1: 4}, "val": {0: 1, 1: 2}, "test": {0: 5, 1: 0}}
    assert health.absent_cells == {
        "train": [("mole", 1)],
        "val": [("mole", 0), ("wart", 1)],
        "test": [("mole", 1), ("wart", 0), ("wart", 1)],
    }
    assert health.thin_cells == {"train": [("wart", 1, 4)], "val": [("mole", 1, 2), ("wart", 0, 1)], "test": []}
    assert health.faults() == []
    assert health.notes() == [
        "train: (class, group) cells without an image: 1; with 1 to 4: 1.",
        "val: (class, group) cells without an image: 2; with 1 to 4: 2.",
        "test: (class, group) cells without an image: 3; with 1 to 4: 0.",
    ]


def test_leakage_by_hand(tmp_path: Path) -> None:
    rows = (
        *("a,x,d,train,L1", "b,x,d,train,L1", "c,x,l,train,L2", "d,x,l,train,"),
        *("e,x,d,val,L1", "f,x,d,val,L1", "g,x,l,val,L3", "h,x,l,val,"),
        *("i,x,d,test,L2", "j,x,d,test,L3", "k,x,l,test,L4", "l,x,l,test,"),
    )
    health = own(tmp_path, *rows).health(tables_only=True)
    assert health.leakage == {"train-val": 2, "train-test": 1, "val-test": 1}
    fault = "2 of 4 val rows share a lesion or a picture with train; splits: leak_free avoids it."
    assert health.faults()[0] == fault
    assert fault in health.notes()
    assert len(health.faults()) == 3


# -- images -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ailing(tmp_path: Path) -> Path:
    """Thirty sound pictures and eleven others; a table that lists them and one more."""
    root = tmp_path / "ailing"
    root.mkdir()
    names = [f"sound-{number:02d}.png" for number in range(30)]
    for seed, name in enumerate(names):
        noise(seed).save(root / name)
    noise(100).save(root / "truncated.jpg")
    whole = (root / "truncated.jpg").read_bytes()
    (root / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "text.jpg").write_text("no picture")
    (root / "empty.jpg").write_bytes(b"")
    (root / "folder.jpg").mkdir()
    noise(101).convert("L").save(root / "grey.jpg")
    noise(102).convert("CMYK").save(root / "cmyk.jpg")
    noise(103).convert("RGBA").save(root / "rgba.png")
    noise(104).quantize(16).save(root / "palette.png")
    orientation = Image.Exif()
    orientation[0x0112] = 6
    noise(105).save(root / "turned.jpg", exif=orientation)
    noise(106).convert("L").save(root / "grey-turned.jpg", exif=orientation)
    orientation[0x0112] = 1
    noise(107).save(root / "upright.jpg", exif=orientation)
    names += ["truncated.jpg", "text.jpg", "empty.jpg", "folder.jpg", "missing.jpg"]
    names += ["grey.jpg", "cmyk.jpg", "rgba.png", "palette.png", "turned.jpg", "grey-turned.jpg", "upright.jpg"]
    rows = [f"{name},{'xy'[row % 2]},{'dl'[row // 2 % 2]},{SPLITS[row % 3]}," for row, name in enumerate(names)]
    (root / "metadata.csv").write_text("\n".join([HEADER, *rows, ""]))
    return root


def test_each_ailing_image_is_named(ailing: Path) -> None:
    data_set = CSVTable(root=str(ailing), **NAMED)
    health = data_set.health()
    assert (health.listed, health.images_checked) == (42, True)
    assert health.missing == ["missing.jpg"]
    assert list(health.unreadable) == ["truncated.jpg", "text.jpg", "empty.jpg", "folder.jpg"]
    assert health.unreadable["text.jpg"] == "not an image"
    assert health.unreadable["empty.jpg"] == "empty file"
    assert health.truncated == ["truncated.jpg"]
    assert health.converted == {
        "greyscale": ["grey.jpg", "grey-turned.jpg"],
        "cmyk": ["cmyk.jpg"],
        "rgba": ["rgba.png"],
        "other": ["palette.png"],
        "exif_rotated": ["turned.jpg", "grey-turned.jpg"],
    }
    assert health.dropped == {
        "unreadable": ["truncated.jpg", "text.jpg", "empty.jpg", "folder.jpg"],
        "missing": ["missing.jpg"],
    }
    assert health.duplicates == []
    # rows 30 to 34 are dropped: two of train (30, 33), two of val (31, 34), one of test (32)
    assert health.splits == {"train": 12, "val": 12, "test": 13}
    assert len(data_set.table()) == 37
    used = [row for row in read(ailing / "metadata.csv") if row["picture"] in set(data_set.table()["id"])]
    check_counts(health, [(row["part"], row["finding"], int(row["tone"] == "l")) for row in used], ["x", "y"])


def test_a_decoder_that_gives_up_is_no_traceback(tmp_path: Path) -> None:
    for seed, split in enumerate(SPLITS):
        noise(seed).save(tmp_path / f"{split}.png")
    noise(9).save(tmp_path / "odd.dds")
    content = bytearray((tmp_path / "odd.dds").read_bytes())
    content[80:84] = bytes(4)  # flags of the pixel format: Pillow raises NotImplementedError
    (tmp_path / "odd.dds").write_bytes(content)
    rows = ("train.png,x,d,train,", "val.png,x,l,val,", "test.png,x,l,test,", "odd.dds,x,d,train,")
    assert list(own(tmp_path, *rows).health().unreadable) == ["odd.dds"]


def test_nothing_that_can_be_read_is_no_traceback(tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / split).write_text("no picture")
    data_set = own(tmp_path, "train,x,d,train,", "val,x,l,val,", "test,x,l,test,")
    health = data_set.health()
    assert health.unreadable == dict.fromkeys(SPLITS, "not an image")
    assert health.splits == {"train": 0, "val": 0, "test": 0}
    with pytest.raises(DataError, match="of 3 listed rows 0 can be used"):
        data_set.table()


def test_notes_say_what_was_done(tmp_path: Path) -> None:
    pictures = {"a.png": 1, "b.png": 2, "c.png": 3, "d.png": 1, "e.png": 2, "f.png": 4, "g.png": 5, "h.png": 5}
    for name, seed in pictures.items():
        noise(seed).save(tmp_path / name)
    noise(6).convert("L").save(tmp_path / "i.png")
    rows = (
        *("a.png,x,d,train,", "b.png,x,l,train,", "c.png,x,d,train,", "i.png,x,d,train,", "gone.png,x,d,train,"),
        *("d.png,y,d,val,", "e.png,y,l,val,", "f.png,x,,val,", "g.png,x,l,test,", "h.png,x,,test,"),
    )
    data_set = own(tmp_path, *rows)
    notes = data_set.health().notes()
    assert notes[:2] == [
        "1 of 10 rows dropped (missing): gone.png.",
        "2 of 10 rows dropped (unknown group): f.png, h.png.",
    ]
    assert "Converted to upright RGB: 1 greyscale." in notes
    assert "2 of 2 val rows share a lesion or a picture with train; splits: leak_free avoids it." in notes
    repeats = "3 of 10 images repeat another one; in 2 of 3 groups the labels differ; duplicates: drop omits them."
    assert repeats in notes
    assert "unknown" not in " ".join(notes[2:])
    # the three splits have 4, 2 and 1 rows, no cell has five
    assert notes[-3:] == [
        "train: (class, group) cells without an image: 2; with 1 to 4: 2.",
        "val: (class, group) cells without an image: 2; with 1 to 4: 2.",
        "test: (class, group) cells without an image: 3; with 1 to 4: 1.",
    ]
    as_1 = own(tmp_path, *rows, unknown_group="as_1").health().notes()
    assert "2 rows are of unknown group and coded as 1; unknown_group: drop omits them." in as_1


def test_notes_name_a_few(tmp_path: Path) -> None:
    for seed, name in enumerate(SPLITS):
        noise(seed).save(tmp_path / f"{name}.png")
    rows = [f"{name}.png,x,{'l' if name == 'val' else 'd'},{name}," for name in SPLITS]
    rows += [f"gone-{number:04d},x,d,train," for number in range(1_207)]
    health = own(tmp_path, *rows).health()
    named = "gone-0000, gone-0001, gone-0002, gone-0003, gone-0004 and 1,202 more."
    assert health.notes()[0] == f"1,207 of 1,210 rows dropped (missing): {named}"
    assert health.faults() == [f"1,207 images are missing: {named} Bring them."]
    assert len(health.missing) == 1_207


def strictly_ailing(root: Path) -> list[str]:
    """Adds a leak to what else ails; the parts that a refusal has to have."""
    with (root / "metadata.csv").open("a") as file:
        file.write("again.png,x,d,test,\n")
    noise(0).save(root / "again.png")  # sound-00 of train
    return [
        "1 image is missing: missing.jpg. Bring them.",
        "4 images are unreadable: truncated.jpg (",
        "text.jpg (not an image), empty.jpg (empty file), folder.jpg (",
        "1 of 14 test rows shares a lesion or a picture with train;",
    ]


def test_strict_refuses_with_every_fault(ailing: Path) -> None:
    parts = strictly_ailing(ailing)
    options = NAMED | {"root": str(ailing), "image_size": 32}
    assert len(CSVTable(**options).table()) == 38
    refusing = (CSVTable(**options, strict=True).table, CSVTable(**options, strict=True).load)
    for refused in refusing:
        with pytest.raises(DataError) as caught:
            refused()
        text = str(caught.value)
        assert text.splitlines()[0] == f"{ailing} is refused, since strict is true:"
        assert len(text.splitlines()) == 4
        for part in parts:
            assert part in text


def test_strict_lets_a_sound_data_set_pass(shared: Path) -> None:
    assert len(ISIC2019(str(shared / "data" / "isic2019_mini"), strict=True).table()) == 1_200


# -- the command --------------------------------------------------------------------------------------------------


def command(*arguments: str, root: Path) -> list[str]:
    """Of the csv data set, its columns named."""
    sets = [part for key, value in NAMED.items() for part in ("--set", f"{key}={value}")]
    return ["data", arguments[0], "csv", "--root", str(root), *sets, *arguments[1:]]


def test_check_prints_names_and_numbers(ailing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("check", root=ailing)) == 0
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    lines = printed.out.splitlines()
    assert lines[0] == "42 rows listed"
    by_first = {line.split()[0]: line.split()[1:] for line in lines if line.split()}
    # rows 0, 3, ..., 39 are train's, less 30 and 33; groups change every two rows
    train = [row for row in range(0, 42, 3) if row not in (30, 33)]
    light = sum(row // 2 % 2 for row in train)
    assert by_first["train"][:3] == ["12", str(12 - light), str(light)]
    for kind, names in {
        "missing": ["missing.jpg"],
        "unreadable": ["truncated.jpg (", "text.jpg (not an image)", "empty.jpg (empty file)", "folder.jpg ("],
        "truncated (part of unreadable)": ["truncated.jpg"],
        "greyscale": ["grey.jpg", "grey-turned.jpg"],
        "cmyk": ["cmyk.jpg"],
        "rgba": ["rgba.png"],
        "other": ["palette.png"],
        "exif_rotated": ["turned.jpg", "grey-turned.jpg"],
    }.items():
        start = lines.index(f"{kind}:") + 1
        for line, name in zip(lines[start : start + len(names)], names, strict=True):
            assert line.startswith(f"  {name}")
        assert start + len(names) == len(lines) or lines[start + len(names)] == ""
    assert "duplicates:" not in lines


def test_check_as_json(ailing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("check", "--json", root=ailing)) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dataset"], found["root"], found["listed"]) == ("csv", str(ailing), 42)
    assert found["missing"] == ["missing.jpg"]
    assert list(found["unreadable"]) == ["truncated.jpg", "text.jpg", "empty.jpg", "folder.jpg"]
    assert found["converted"]["cmyk"] == ["cmyk.jpg"]
    assert found["splits"] == {"train": 12, "val": 12, "test": 13}
    assert sum(found["groups"]["test"].values()) == sum(found["classes"]["test"].values()) == 13
    assert len(found["faults"]) == 2


@pytest.mark.parametrize("how", [["--strict"], ["--set", "strict=true"]])
def test_check_strict_says_everything_and_then_refuses(
    ailing: Path, capsys: pytest.CaptureFixture[str], how: list[str]
) -> None:
    parts = strictly_ailing(ailing)
    assert main(command("check", "--json", *how, root=ailing)) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["leakage"] == {"train-val": 0, "train-test": 1, "val-test": 0}
    assert json.loads(printed.out)["duplicates"] == [["sound-00.png", "again.png"]]
    for part in parts:
        assert part in printed.err


def test_check_strict_passes_what_is_sound(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(shared / "data" / "fitzpatrick17k_mini")
    assert main(["data", "check", "fitzpatrick17k", "--root", root, "--strict", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 234, "val": 68, "test": 52}
    assert found["faults"] == []
    assert found["images_checked"] is True


def test_check_of_tables_only(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "check", "isic2019", "--root", str(published), "--json"]
    assert main([*arguments, "--tables-only"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["leakage"]["train-test"] == 2_210
    assert found["images_checked"] is False
    assert main([*arguments, "--tables-only", "--set", "splits=leak_free", "--set", "sensitive=age"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["leakage"] == NO_LEAKAGE
    assert sum(found["groups"][split]["1"] for split in SPLITS) == 8_434 + 2_811 + 2_812
    assert main(arguments) == 2  # there are no images
    printed = capsys.readouterr()
    assert "none of the 24,840 images" in json.loads(printed.out)["faults"][0]
    assert main([*arguments[:-1], "--tables-only"]) == 0
    assert capsys.readouterr().out.startswith("24,840 rows listed; images not looked at\n")


def test_check_lists_duplicates_and_how_many_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for number in range(26):
        noise(number // 2).save(tmp_path / f"{number:02d}.png")
        rows.append(f"{number:02d}.png,x,{'dl'[number // 2 % 2]},{SPLITS[number // 2 % 3]},")
    own(tmp_path, *rows)
    assert main(command("check", root=tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("duplicates:") + 1
    assert lines[start : start + 10] == [f"  {number:02d}.png = {number + 1:02d}.png" for number in range(0, 20, 2)]
    assert lines[start + 10 :] == ["  and 3 more: --json names all"]
    assert main(command("check", "--set", "duplicates=drop", "--json", root=tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dropped"]["duplicate"] == [f"{number:02d}.png" for number in range(1, 26, 2)]
    assert sum(found["splits"].values()) == 13


def test_check_of_wrong_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, part in {
        ("isic2020", "--root", str(tmp_path)): "Did you mean 'isic2019'?",
        ("isic2019",): "dataset.root: missing; name the folder that holds the tables and images/ by --root DIR.",
        ("isic2019", "--root", str(tmp_path / "none")): "none does not exist",
        ("isic2019", "--root", str(tmp_path), "--set", "spilts=seeded"): "Did you mean 'splits'?",
        ("isic2019", "--root", str(tmp_path), "--set", "splits"): "write it as a.b=value",
        ("synthetic", "--root", str(tmp_path)): "dataset.root: unknown key",
    }.items():
        assert main(["data", "check", *arguments]) == 2
        printed = capsys.readouterr()
        assert part in printed.err
        assert printed.out == ""


@pytest.mark.parametrize("count", ["abc", "0", "-1", "1.5"])
def test_counts_of_a_page_are_whole_numbers(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "show", "synthetic", f"--samples={count}"])
    assert f"argument --samples: got '{count}'; allowed is a whole number from 1 on" in capsys.readouterr().err


def test_check_of_generated_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "synthetic", "--strict"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1,600 rows listed")
    assert main(["data", "check", "synthetic", "--json", "--set", "train=64", "--set", "num_classes=2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 64, "val": 400, "test": 400}
    assert list(found["classes"]["val"]) == ["disc", "ring"]
    # shares 4/7 and 3/7, 0.35 dark, in val independent
    assert found["classes"]["val"]["disc"] == pytest.approx(400 * 4 / 7, abs=2)
    assert found["groups"]["val"]["1"] == pytest.approx(140, abs=2)
    assert (found["leakage"], found["duplicates"], found["missing"]) == (NO_LEAKAGE, [], [])


def test_build(ailing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "build", "synthetic"]) == 0
    assert "there is no store to build" in capsys.readouterr().err
    assert main(command("build", "--image-size", "16", "--json", root=ailing)) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["identity"]["image_size"] == 16
    assert found["store"] in printed.err
    assert Path(found["store"]).stat().st_size > 37 * 3 * 16 * 16
    refused = command("build", "--set", "strict=true", root=ailing)
    assert main(refused) == 2
    assert "missing.jpg" in capsys.readouterr().err


def test_show_draws_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.png"
    small = ["--image-size", "32", "--set", "train=32", "--set", "val=16", "--set", "test=16"]
    page = ["--samples", "3", "--draws", "2", "--augment", "flips", "--out", str(out)]
    assert main(["data", "show", "synthetic", *small, *page]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width > 300
        assert picture.height > 300
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50  # not blank
