"""Numbers that a person is shown: what stands beside them, and test numbers only where they were asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from asking import MINIATURE, ask

from scp_ray.cli.attaching import attached_of
from scp_ray.ledger import load_sweep


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a sweep of two arms, each run by ``scp-ray trial``, and the answers."""
    folder = tmp_path_factory.mktemp("shown")
    (folder / "miniature.yaml").write_text(MINIATURE)
    asked = ("trial", folder / "miniature.yaml", "--out", folder, "--json", "--set", "trial.train.epochs=6")
    answers = [ask(*asked, "--set", f"grid.pr_c=[{pr_c}]") for pr_c in (0.05, 0.2)]
    return folder / "miniature", answers


def test_test_numbers_of_an_earlier_report_do_not_stay_beside_a_newer_one(done, tmp_path):
    """Nor are they brought to a tracker as part of it. What else lies in report/ stays."""
    root = Path(shutil.copytree(done[0], tmp_path / "copy"))
    assert ask("report", root).code == 0
    before = contents(root / "report")
    assert ask("report", root, "--show-test").code == 0
    added = contents(root / "report") - before
    assert added == {"search-test.csv", *(f"tables/table-test.{kind}" for kind in ("csv", "md", "tex"))}
    assert {f"report/{name}" for name in added} <= set(attached_of(load_sweep(root), "none").files)
    (root / "report" / "notes.txt").write_text("test: mine")
    assert ask("report", root).code == 0
    assert contents(root / "report") == before | {"notes.txt"}
    assert not any("test" in name for name in attached_of(load_sweep(root), "none").files)
    assert 'id="test-title"' not in (root / "report" / "index.html").read_text(encoding="utf-8")


def test_a_trial_says_what_its_numbers_need_beside_them(done):
    """n, seed, split and rule; each gap with the floor that the ledger keeps of it."""
    root, answers = done
    for answer in answers:
        trial_id = answer.json["trial_id"]
        lines = answer.err.splitlines()
        assert any(line.startswith("validation, n = 48 images, seed 0; ") for line in lines)
        rows = pd.read_parquet(root / "rounds" / f"{trial_id}.parquet").set_index("round")
        (base,) = (root / "bases").iterdir()
        kept = pd.concat(
            [pd.read_parquet(path) for path in (base / "evidence.parquet", root / "evidence" / f"{trial_id}.parquet")]
        )
        floors = kept[kept["metric"] == "eodd"].set_index("round")["floor_mean"]
        for index in (0, 1):
            (line,) = [line for line in lines if line.startswith(f"round {index}: ")]
            f1, eodd = rows.loc[index, ["val_f1", "val_eodd"]]
            assert f"F1 {f1:.4f}, Eodd {eodd:.4f} (floor {floors[index]:.4f}), FATE " in line
        best = rows["val_fate_eodd_base"].idxmax()
        assert f"selected: round {best}, by best_val_fate" in lines
