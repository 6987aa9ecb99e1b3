"""What a sweep does with a data set that is not in order, and what its record says of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scp_ray.cli.main import main
from scp_ray.data.source import Source
from scp_ray.errors import DataError
from scp_ray.ledger import Ledger

ROWS = 72


def pictures(root: Path) -> Path:
    """Noise of three classes and two sexes; ISIC_07 is no image, ISIC_09 is grey, ISIC_11 shows ISIC_10's lesion."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    lines = ["image,lesion_id,low,gender,split"]
    for row in range(ROWS):
        name, split = f"ISIC_{row:02d}", ("train", "val", "test")[row % 3]
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(root / "images" / f"{name}.jpg")
        lines.append(f"{name},{'L10' if row in (10, 11) else ''},{row // 3 % 3},{row // 9 % 2},{split}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    (root / "images" / "ISIC_07.jpg").write_text("no picture")
    Image.open(root / "images" / "ISIC_09.jpg").convert("L").save(root / "images" / "ISIC_09.jpg")
    return root


SPACE = """\
# Data with faults.
name: faulty
trial:
  dataset: {name: isic2019, root: ROOT, image_size: 32}
  backbone: tiny
  pr_c: 0.1
  rounds: 1
  train: {epochs: 1, batch_size: 8, lr: 0.01, augment: released}
  fine_tune: {epochs: 1, batch_size: 8, lr: 0.01, augment: none, sampler: group}
resources: {cpus_per_trial: 1, device: cpu}
"""


class Bench:
    """A folder with pictures and a space."""

    def __init__(self, folder: Path) -> None:
        self.root, self.out = pictures(folder / "data"), folder / "results"
        self.space = folder / "space.yaml"
        self.space.write_text(SPACE.replace("ROOT", str(self.root)))

    def trial(self, *options: str) -> int:
        return main(["trial", str(self.space), "--out", str(self.out), *options])

    @property
    def record(self) -> dict[str, Any]:
        (entry,) = json.loads((self.out / "faulty" / "sweep.json").read_text())["data"].values()
        return dict(entry)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_wrong_is_said_and_kept(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.trial() == 0
    said = capsys.readouterr().err
    assert "isic2019: 1 of 72 rows dropped (unreadable): ISIC_07." in said
    assert "isic2019: Converted to upright RGB: 1 greyscale." in said
    assert "1 of 24 test rows shares a lesion or a picture with val; splits: leak_free avoids it." in said
    health = bench.record["health"]
    assert health["unreadable"] == {"ISIC_07": "not an image"}
    assert health["dropped"] == {"unreadable": ["ISIC_07"]}
    assert health["converted"]["greyscale"] == ["ISIC_09"]
    assert health["splits"] == {"train": 24, "val": 23, "test": 24}
    assert health["leakage"] == {"train-val": 0, "train-test": 0, "val-test": 1}
    assert len(bench.record["sources"]) == 64


def test_strict_refuses_and_leaves_no_trace(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """For what the tables say before an image is looked at, then for what the images say."""
    assert bench.trial("--set", "trial.dataset.strict=true") == 2
    assert "1 of 24 test rows shares a lesion or a picture with val; splits: leak_free" in capsys.readouterr().err
    assert bench.trial("--set", "trial.dataset.strict=true", "--set", "trial.dataset.splits=leak_free") == 2
    assert "ISIC_07 (not an image)" in capsys.readouterr().err
    assert not bench.out.exists()


def test_images_that_changed_since_the_sweep_began_are_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.trial() == 0
    before = bench.record
    picture = bench.root / "images" / "ISIC_30.jpg"
    content = picture.read_bytes()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)).save(picture)
    capsys.readouterr()
    assert bench.trial("--set", "trial.rounds=2") == 2
    assert "some have changed, or can no longer be used" in capsys.readouterr().err
    assert bench.record == before
    picture.write_bytes(content)  # another time of change, the same content
    assert bench.trial("--set", "trial.rounds=2") == 0


def test_tables_of_another_split_are_another_data_set(bench: Bench) -> None:
    assert bench.trial() == 0
    assert bench.trial("--set", "grid={dataset.splits: [leak_free]}") == 0
    records = json.loads((bench.out / "faulty" / "sweep.json").read_text())["data"].values()
    leaks = [record["health"]["leakage"] for record in records]
    assert leaks[0]["val-test"] == 1
    assert leaks[1] == {"train-val": 0, "train-test": 0, "val-test": 0}


def test_a_node_with_other_data_is_refused(bench: Bench) -> None:
    """What a worker asks of its data before it trains."""
    assert bench.trial() == 0
    ledger = Ledger(bench.out / "faulty")
    (key,) = ledger.definition()["data"]
    sources, units = bench.record["sources"], bench.record["units"]
    ledger.check_data(key, sources, units)
    with pytest.raises(DataError, match=r"the images on .* are not those that the sweep was planned with"):
        ledger.check_data(key, "0" * 64, units)
    with pytest.raises(DataError, match=r"the units \(lesions, patients\) on .* are not those that the sweep was"):
        ledger.check_data(key, sources, "")
    with pytest.raises(
        DataError,
        match=r"the tables on .*, or the images that can be used there, are not those that the sweep was planned with",
    ):
        ledger.check_data("0" * 16, sources, units)


def test_a_dry_run_looks_but_decodes_nothing(bench: Bench, store: Path) -> None:
    arguments = ["sweep", str(bench.space), "--out", str(bench.out), "--dry-run"]
    assert main(arguments) == 0
    folder = Source(bench.root, ("images/ISIC_00.jpg",)).folder
    assert folder.parent == store
    assert [path.name for path in folder.glob("*.arrow")] == ["facts-2.arrow"]


def test_an_image_that_went_missing_since_the_sweep_began_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row would be dropped, and with it every number would be of another table."""
    assert bench.trial() == 0
    before = bench.record
    picture = bench.root / "images" / "ISIC_30.jpg"
    content = picture.read_bytes()
    picture.unlink()
    capsys.readouterr()
    assert bench.trial("--set", "trial.rounds=2") == 2
    assert "or can no longer be used. Put the earlier ones back" in capsys.readouterr().err
    assert bench.record == before
    picture.write_bytes(content)
    assert bench.trial("--set", "trial.rounds=2") == 0


def test_a_corrected_table_is_refused_and_takes_another_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Its arms would stand beside those of the table before, as if they compared."""
    assert bench.trial() == 0
    before = bench.record
    path = bench.root / "metadata.csv"
    table = pd.read_csv(path, dtype=str)
    place = table.index[table["split"] == "val"][0]
    table.loc[place, "gender"] = {"0": "1", "1": "0"}[table.loc[place, "gender"]]
    table.to_csv(path, index=False)
    capsys.readouterr()
    assert bench.trial("--set", "grid={pr_c: [0.5]}") == 2
    assert "tables or images of isic2019 are not those" in capsys.readouterr().err
    assert bench.record == before
    command = ["trial", str(bench.space), "--out", str(bench.out), "--set", "name=corrected"]
    subprocess.run([sys.executable, "-m", "scp_ray.cli.main", *command], check=True)  # a process keeps what it has read


def test_a_class_that_no_row_in_use_has_is_none(bench: Bench) -> None:
    """Beside three classes, a row of a fourth that is dropped: it is the same trial, of the same network."""
    columns = "name: csv, file: image, label: low, group: gender, split: split, images: images, suffix: .jpg"
    bench.space.write_text(bench.space.read_text().replace("name: isic2019", columns))
    assert bench.trial() == 0
    with (bench.root / "metadata.csv").open("a") as file:
        file.write("ISIC_99,,9,,train\n")
    command = ["trial", str(bench.space), "--out", str(bench.out), "--set", "trial.rounds=2"]
    subprocess.run([sys.executable, "-m", "scp_ray.cli.main", *command], check=True)  # a process keeps what it has read
    (path,) = (bench.out / "faulty" / "rounds").iterdir()
    assert pd.read_parquet(path)["num_classes"].tolist() == [3, 3, 3]
    assert bench.record["health"]["listed"] == ROWS + 1


def test_another_number_of_classes_is_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a class had no row that is used: its networks had an output more under the same ids."""
    assert bench.trial() == 0
    path = bench.out / "faulty" / "sweep.json"
    content = json.loads(path.read_text())
    (record,) = content["data"].values()
    record["health"]["classes"]["train"]["NEW"] = 0
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert bench.trial("--set", "trial.rounds=2") == 2
    assert "tables or images of isic2019 are not those" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["a corrected table", "another column"])
def test_other_units_of_one_table_are_refused(how: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids and images are the same, but all evidence would be of other lesions than what the sweep's record says."""
    path, changed = bench.root / "metadata.csv", []
    corrected = path.read_text().replace("ISIC_13,,", "ISIC_13,L10,")  # both are of validation
    if how == "another column":
        path.write_text(corrected)
        columns = "name: csv, file: image, label: low, group: gender, split: split, images: images, suffix: .jpg"
        bench.space.write_text(bench.space.read_text().replace("name: isic2019", columns))
        changed = ["--set", "trial.dataset.unit=lesion_id"]
    assert bench.trial() == 0
    before = bench.record
    path.write_text(corrected)
    capsys.readouterr()
    assert bench.trial("--set", "trial.rounds=2", *changed) == 2
    assert "(lesions, patients, duplicates) are not those that this sweep already has" in capsys.readouterr().err
    assert bench.record == before
    command = ["trial", str(bench.space), "--out", str(bench.out), "--set", "name=other", *changed]
    subprocess.run([sys.executable, "-m", "scp_ray.cli.main", *command], check=True)  # a process keeps what it has read
    tables = [pd.read_parquet(next((bench.out / name / "evidence").iterdir())) for name in ("faulty", "other")]
    assert [int(table["units"].iloc[0]) for table in tables] == [23, 22]


@pytest.mark.ray
def test_arms_on_other_images_of_one_table_are_refused(bench: Bench, tmp_path: Path) -> None:
    """Both would have the same trial ids."""
    other = tmp_path / "other"
    shutil.copytree(bench.root, other)
    path = other / "images" / "ISIC_30.jpg"
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    space = bench.space.read_text() + f"grid: {{dataset.root: [{bench.root}, {other}]}}\n"
    bench.space.write_text(space)
    assert main(["sweep", str(bench.space), "--out", str(bench.out)]) == 2


def test_the_report_says_what_is_wrong_with_the_data(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.trial() == 0
    capsys.readouterr()
    assert main(["report", str(bench.out / "faulty")]) == 0
    assert "Data: 1 of 72 rows dropped (unreadable): ISIC_07." in capsys.readouterr().out
