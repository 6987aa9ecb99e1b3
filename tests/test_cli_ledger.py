"""One trial without Ray, and what the commands read from its ledger."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asking import MINIATURE, Answer, ask
from PIL import Image

from scp_ray.ledger import load_sweep
from scp_ray.report.tables import caption, fate_table


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


def trial_id_of(answer: Answer) -> str:
    return json.loads(answer.out)["trial_id"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a sweep of two arms, each run by ``scp-ray trial``, and the answers."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "miniature.yaml").write_text(MINIATURE)
    answers = [
        ask("trial", folder / "miniature.yaml", "--out", folder / "results", "--set", f"grid.pr_c=[{pr_c}]", "--json")
        for pr_c in (0.05, 0.2)
    ]
    return folder / "results" / "miniature", answers


def test_a_trial_leaves_the_promised_files(done):
    root, answers = done
    assert [answer.code for answer in answers] == [0, 0]
    definition = json.loads((root / "sweep.json").read_text())
    trials = [entry["trial_id"] for arm in definition["arms"] for entry in arm["trials"]]
    bases = {entry["base_id"] for arm in definition["arms"] for entry in arm["trials"]}
    assert (len(set(trials)), len(bases)) == (2, 1)
    assert [arm["label"] for arm in definition["arms"]] == ["pr_c=0.05", "pr_c=0.2"]
    for kind in ("rounds", "channels", "predictions", "evidence"):
        assert {path.stem for path in (root / kind).glob("*.parquet")} == set(trials)
    (base,) = (root / "bases").iterdir()
    assert base.name in bases
    assert {"model.safetensors", "predictions.parquet", "evidence.parquet", "rounds.parquet"} <= {
        path.name for path in base.iterdir()
    }
    assert len([*base.glob("scores/*.parquet")]) == 1  # both arms share them
    assert not (root / "driver.json").exists()
    assert definition["name"] == "miniature"
    assert set(definition["versions"]) >= {"python", "torch", "ray", "mlflow", "numpy"}
    assert definition["test_reveals"] == 0


def test_the_tables_have_the_promised_columns(done):
    root, _ = done
    rounds, channels, predictions = (
        pq.read_table(next((root / kind).glob("*.parquet"))) for kind in ("rounds", "channels", "predictions")
    )
    promised = {
        *("trial_id", "base_id", "vanilla_id", "round", "from_base", "dataset", "backbone", "method", "criterion"),
        *("pr_c", "k", "layer", "seed", "channels_pruned", "stop_reason", "stopped"),
        *("val_n", "val_f1", "val_eopp0", "val_eopp1", "val_eodd", "fate_reason"),
        *(f"val_fate_{gap}_{against}" for gap in ("eopp0", "eopp1", "eodd") for against in ("base", "vanilla")),
        *("seconds", "peak_memory_mb", "node", "device", "threads"),
    }
    assert promised - set(rounds.column_names) == set()
    assert [name for name in rounds.column_names if name.startswith("test_")] == []
    assert set(channels.column_names) == {"round", "channel", "score", "p", "pruned", "kept"}
    assert predictions.column_names == ["round", "split", "id", "unit", "label", "tone", "prediction", "logits"]
    assert predictions.schema.field("prediction").type == pa.int16()
    assert predictions.schema.field("logits").type.value_type == pa.float16()


def test_the_tables_hold_a_row_per_round_channel_and_image(done):
    root, answers = done
    for k, answer in zip((3, 13), answers, strict=True):
        path = root / "rounds" / f"{trial_id_of(answer)}.parquet"
        rounds = pq.read_table(path).to_pylist()
        assert [(row["round"], row["from_base"], row["k"]) for row in rounds] == [(0, True, k), (1, False, k)]
        assert [len(row["channels_pruned"]) for row in rounds] == [0, k]
        assert [row["channels_left"] for row in rounds] == [64, 64 - k]
        assert {row["val_n"] for row in rounds} == {48}
        channels = pq.read_table(root / "channels" / path.name).to_pandas()
        assert (len(channels), channels["pruned"].sum(), channels["kept"].sum()) == (64, k, 64 - k)
        assert sorted(channels["channel"][channels["pruned"]]) == rounds[1]["channels_pruned"]
        # low = prune first
        assert channels["score"][channels["pruned"]].max() <= channels["score"][channels["kept"]].min()
        predictions = pq.read_table(root / "predictions" / path.name).to_pandas()
        assert predictions.groupby(["round", "split"]).size().to_dict() == {(1, "val"): 48, (1, "test"): 40}
        assert predictions.groupby("split")["id"].nunique().to_dict() == {"val": 48, "test": 40}


def test_a_trial_tells_its_rows_as_json(done):
    root, answers = done
    for answer, arm in zip(answers, ("pr_c=0.05", "pr_c=0.2"), strict=True):
        told = json.loads(answer.out)
        assert answer.out.count("\n") == 1
        assert (set(told), told["arm"]) == ({"trial_id", "arm", "rounds"}, arm)
        stored = pq.read_table(root / "rounds" / f"{told['trial_id']}.parquet").to_pylist()
        assert [row["val_f1"] for row in told["rounds"]] == [row["val_f1"] for row in stored]
    assert "training base vanilla, seed 0" in answers[0].err
    assert "training base" not in answers[1].err


def test_an_undefined_number_is_null_in_json(miniature, tmp_path):
    command = ("trial", miniature, "--out", tmp_path, "--set", "trial.rounds=0", "--json")
    path = tmp_path / "miniature" / "rounds" / f"{trial_id_of(ask(*command))}.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("val_fate_eodd_base")
    pq.write_table(table.set_column(place, "val_fate_eodd_base", pa.array([float("nan")])), path)
    assert ask(*command).json["rounds"][0]["val_fate_eodd_base"] is None
    assert ask("report", tmp_path, "--json").json["table"][0]["fate_mean"] is None


def test_a_second_run_changes_nothing(done):
    root, answers = done
    before = contents(root)
    space = root.parents[1] / "miniature.yaml"
    again = ask("trial", space, "--out", root.parent, "--set", "grid.pr_c=[0.05]", "--json")
    assert (again.code, again.out) == (0, answers[0].out)
    after = contents(root)
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {"sweep.json"}
    plan = ask("sweep", space, "--out", root.parent, "--dry-run", "--json")
    assert plan.json["to_do"] == {"bases": [], "trials": []}
    assert plan.json["already_done"] == 3
    assert contents(root) == after


def test_report_writes_a_page_figures_a_table_and_prints_a_row_per_arm_and_round(done):
    root, _ = done
    answer = ask("report", root.parent)
    assert answer.code == 0
    folder = root / "report"
    plain = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".html"]
    assert {path.suffix for path in plain} == {".png", ".svg", ".csv"}
    for path in plain:
        assert str(path) in answer.out.splitlines()
    assert answer.out.splitlines()[-1] == f"The report: {folder / 'index.html'}"
    page = (folder / "index.html").read_text(encoding="utf-8")
    for picture in (folder / "figures").glob("*.svg"):
        assert f'id="picture-{picture.stem}"' in page
    assert {path.name for path in (folder / "tables").iterdir()} == {
        f"table-val.{kind}" for kind in ("csv", "md", "tex")
    }
    png, svg, table = (folder / f"fate-curves.{suffix}" for suffix in ("png", "svg", "csv"))
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(png) as image:
        assert image.width >= 1000
        assert image.height >= 600
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
    assert ElementTree.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [("pr_c=0.05", "0"), ("pr_c=0.05", "1"), ("pr_c=0.2", "0"), ("pr_c=0.2", "1")]
    assert [(row["arm"], row["round"]) for row in rows] == expected
    printed = [
        tuple(line.split()[:2]) for line in answer.out.splitlines() if line.split()[:1] in (["pr_c=0.05"], ["pr_c=0.2"])
    ]
    assert printed == expected
    assert "n = 48 images; seeds 0" in answer.out
    assert "best_val_fate" in answer.out


def test_test_numbers_are_counted_and_have_a_section_of_their_own(done, tmp_path):
    root = Path(shutil.copytree(done[0], tmp_path / "copy"))
    assert ask("report", root).code == 0
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="test-title"' not in page
    answer = ask("report", root, "--show-test")
    assert "have now been shown 1 time (" in answer.out
    assert json.loads((root / "sweep.json").read_text())["test_reveals"] == 1
    shown = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="test-title"' in shown and "have now been shown 1 time (" in shown
    assert (root / "report" / "tables" / "table-test.csv").exists()


def test_a_report_is_of_means_over_seeds(tmp_path):
    """By hand: FATE 0.1 and 0.3, then 0.2 and undefined; the sample standard deviation of two is |a - b| / sqrt(2)."""
    numbers = {"s0": ([0.5, 0.6], [0.4, 0.2], [0.1, 0.2]), "s1": ([0.7, 0.6], [0.4, 0.4], [0.3, float("nan")])}
    (tmp_path / "rounds").mkdir()
    for key, (f1, eodd, fate) in numbers.items():
        columns = {"trial_id": [key] * 2, "round": [0, 1], "val_n": [90, 90], "val_f1": f1, "val_eodd": eodd}
        columns |= {"val_fate_eodd_base": fate, "stop_reason": ["", ""], "stopped": [False, False]}
        pq.write_table(pa.table(columns), tmp_path / "rounds" / f"{key}.parquet")
    stop = {"th_acc": 0.03, "th_fair": 0.0, "gap": "eodd", "enforce": False}
    arm = {"label": "all", "settings": {}, "config": {"rounds": 1, "select": "round:1", "stop": stop}}
    arm["trials"] = [
        {"seed": seed, "trial_id": f"s{index}", "base_id": "b", "vanilla_id": "b"} for index, seed in enumerate((3, 8))
    ]
    (tmp_path / "sweep.json").write_text(json.dumps({"name": "hand", "arms": [arm]}))
    sweep = load_sweep(tmp_path)
    rows = fate_table(sweep).to_dict("records")
    root_two = 2**0.5
    expected = [
        {"round": 0, "seeds": 2, "f1_mean": 0.6, "f1_std": 0.2 / root_two, "eodd_mean": 0.4, "eodd_std": 0.0}
        | {"fate_mean": 0.2, "fate_std": 0.2 / root_two, "undefined": 0},
        {"round": 1, "seeds": 2, "f1_mean": 0.6, "f1_std": 0.0, "eodd_mean": 0.3, "eodd_std": 0.2 / root_two}
        | {"fate_mean": 0.2, "fate_std": math.nan, "undefined": 1},
    ]
    for row, numbers in zip(rows, expected, strict=True):
        assert row.pop("arm") == "all"
        assert {name: row.pop(name) for name in numbers} == pytest.approx(numbers, abs=1e-9, nan_ok=True)
        assert all(math.isnan(value) for value in row.values()), "a ledger without predictions has no noise floors"
    text = caption(sweep)
    assert "n = 90 images; seeds 3, 8;" in text
    assert "selection rule: round:1" in text


def test_status_counts_what_is_done(done):
    root, _ = done
    answer = ask("status", root.parent, "--json")
    assert answer.code == 0
    assert answer.json == {
        "sweep": str(root),
        "driver": None,
        "bases": {"done": 1, "of": 1},
        "trials": {"done": 2, "stopped": 0, "started": 0, "waiting": 0, "failed": 0},
        "rounds": {"done": 2, "of": 2},
        "failures": [],
    }
    text = ask("status", root).out
    assert "trials: 2 done; rounds: 2 of 2" in text
    assert "not running" in text


def test_status_names_a_failure_and_ends_with_1(miniature, tmp_path):
    ask("trial", miniature, "--out", tmp_path / "results", "--set", "trial.rounds=0")
    root, second = tmp_path / "results" / "miniature", "5ec0d0000000beef"
    sweep = json.loads((root / "sweep.json").read_text())
    other = {"seed": 1, "trial_id": second, "base_id": "ba5e000000000000", "vanilla_id": "ba5e000000000000"}
    sweep["arms"][0]["trials"].append(other)
    (root / "sweep.json").write_text(json.dumps(sweep))
    failure = {"id": second, "label": "pr_c=0.05, seed=1", "reason": "the loss became nan", "rerun": "scp-ray sweep x"}
    (root / "failures").mkdir()
    (root / "failures" / f"{second}.json").write_text(json.dumps(failure))
    answer = ask("status", root, "--json")
    assert answer.code == 1
    assert answer.json["trials"] == {"done": 1, "stopped": 0, "started": 0, "waiting": 0, "failed": 1}
    assert answer.json["bases"] == {"done": 1, "of": 2}
    assert answer.json["failures"] == [failure]
    text = ask("status", root).out
    assert "failed: pr_c=0.05, seed=1: the loss became nan" in text
    assert "try again: scp-ray sweep x" in text


def test_a_report_without_a_round_says_how_far_the_sweep_is_and_what_failed(done, tmp_path):
    """The base model failed: nothing was recorded but why."""
    root = tmp_path / "failed"
    shutil.copytree(done[0], root)
    for path in (root / "rounds").glob("*.parquet"):
        path.unlink()
    shutil.rmtree(root / "bases")
    base = load_sweep(root).trials["base_id"].iloc[0]
    failure = {"id": base, "label": "base vanilla", "kind": "X", "reason": "the loss became nan", "traceback": ""}
    (root / "failures").mkdir()
    (root / "failures" / f"{base}.json").write_text(json.dumps(failure | {"rerun": "scp-ray sweep again"}))
    answer = ask("report", root)
    assert answer.code == 0, answer.err
    assert "No round has been recorded yet, so there are no tables and figures" in answer.out
    page = (root / "report" / "index.html").read_text()
    assert all(words in page for words in ("No answer yet", "the loss became nan", "scp-ray sweep again"))
    assert ask("report", root, "--json").json["page"] == str(root / "report" / "index.html")


def test_another_seed_of_an_arm_joins_those_that_are_recorded(miniature, tmp_path):
    for seed in (0, 3):
        run = ask("trial", miniature, "--out", tmp_path, "--set", "grid.pr_c=[0.05]", "--set", f"seeds=[{seed}]")
        assert run.code == 0
    assert ask("status", tmp_path, "--json").json["trials"]["done"] == 2
    assert {row["seeds"] for row in ask("report", tmp_path, "--json").json["table"]} == {2}


def test_more_rounds_continue_the_trial(miniature, tmp_path):
    one, three = (
        ask("trial", miniature, "--out", tmp_path, "--set", f"trial.rounds={rounds}", "--json") for rounds in (1, 3)
    )
    first, rows = (json.loads(answer.out) for answer in (one, three))
    assert first["trial_id"] == rows["trial_id"]
    assert [row["round"] for row in rows["rounds"]] == [0, 1, 2, 3]
    assert [row["channels_left"] for row in rows["rounds"]] == [64, 61, 58, 55]
    assert rows["rounds"][1]["time"] == first["rounds"][1]["time"]  # it was not run again
