from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scp_ray.cli import ls
from scp_ray.cli.main import main
from scp_ray.errors import DivergedError, ResourceError

ROOT = Path(__file__).parents[1]

# 0.05 and 0.2 of 64 channels are 3 and 13
MINIATURE = """\
# Does it run at all?
name: miniature
trial:
  dataset: {name: synthetic, num_classes: 2, image_size: 32, train: 64, val: 48, test: 40}
  backbone: tiny
  rounds: 1
  train: {epochs: 1, batch_size: 16, lr: 0.05}
  fine_tune: {epochs: 1, batch_size: 16, lr: 0.01}
grid: {pr_c: [0.05, 0.2]}
seeds: [0]
resources: {cpus_per_trial: 1, device: cpu}
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout, read strictly: NaN is no JSON."""
        assert self.out.count("\n") == 1

        def refuse(word: str) -> None:
            raise ValueError(f"{word} is no JSON")

        content = json.loads(self.out, parse_constant=refuse)
        assert isinstance(content, dict)
        return content


def ask(*arguments: str | Path) -> Answer:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(word) for word in arguments])
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture
def miniature(tmp_path):
    path = tmp_path / "miniature.yaml"
    path.write_text(MINIATURE)
    return path


def trial_id_of(answer: Answer) -> str:
    return json.loads(answer.out)["trial_id"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -- help, names and exit codes ---------------------------------------------------------------------------------------


def test_help_lists_every_command_with_what_it_does():
    answer = ask("--help")
    assert (answer.code, answer.err) == (0, "")
    for command in ("sweep", "trial", "status", "report", "compare", "track", "ls"):
        assert [line for line in answer.out.splitlines() if line.startswith(f"    {command} ")], command


@pytest.mark.parametrize("command", ["sweep", "trial", "status", "report", "compare", "track", "ls"])
def test_every_command_explains_itself(command):
    answer = ask(command, "--help")
    assert answer.code == 0
    assert f"usage: scp-ray {command}" in answer.out


@pytest.mark.parametrize("arguments", [(), ("swep", "quickstart"), ("sweep",), ("ls", "criterias")])
def test_a_command_line_that_asks_for_nothing_known_is_refused(arguments):
    answer = ask(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "usage: scp-ray" in answer.err


def test_the_version_is_the_packages():
    assert ask("--version").out == "scp-ray 0.1.0\n"


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "scp_ray.cli.main", "ls", "methods"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "vanilla" in run.stdout.splitlines()


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ResourceError("no node holds it"), 3, "scp-ray: no node holds it"),
        (DivergedError("the loss became nan"), 1, "scp-ray: the loss became nan"),
        (KeyboardInterrupt(), 75, "run the same command again"),
    ],
)
def test_what_goes_wrong_decides_the_exit_code(monkeypatch, raised, code, words):
    def run(_: Any) -> int:
        raise raised

    monkeypatch.setattr(ls, "run", run)
    answer = ask("ls")
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.err


# -- ls ---------------------------------------------------------------------------------------------------------------


def test_ls_prints_one_name_a_line_where_stdout_is_no_terminal():
    names = ask("ls", "criteria").out.splitlines()
    assert {"magnitude", "none", "random", "snnl", "snnl-released"} <= set(names)
    assert names == sorted(set(names))
    assert all(len(name.split()) == 1 for name in names)


@pytest.mark.parametrize(
    ("room", "some"),
    [
        ("spaces", {"fig2a-pruning-ratio", "fig2b-layer", "isic2019-mini", "quickstart"}),
        ("methods", {"vanilla"}),
        ("datasets", {"synthetic"}),
        ("backbones", {"resnet18", "tiny", "vgg11"}),
    ],
)
def test_ls_knows_every_room(room, some):
    assert some <= set(ask("ls", room).out.splitlines())


def test_ls_of_everything_says_the_room_of_each_name():
    lines = ask("ls").out.splitlines()
    assert {"criteria snnl", "backbones tiny", "datasets synthetic", "methods vanilla", "spaces quickstart"} <= set(
        lines
    )
    assert all(len(line.split()) == 2 for line in lines)


def test_ls_on_a_terminal_says_what_each_one_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["ls", "criteria"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "criteria"
    assert any(line.startswith("  magnitude ") and "absolute weights" in line for line in lines)


# -- requests that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_bad_space_is_refused_with_all_its_faults_and_leaves_nothing(tmp_path, command):
    path = tmp_path / "bad.yaml"
    path.write_text(MINIATURE.replace("epochs: 1", "epochs: -1").replace("tiny", "tinny").replace("rounds", "roundz"))
    answer = ask(command, path, "--out", tmp_path / "results")
    assert (answer.code, answer.out) == (2, "")
    for words in ("trial.train.epochs", "trial.fine_tune.epochs", "Did you mean 'tiny'?", "Did you mean 'rounds'?"):
        assert words in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_an_unknown_space_names_the_nearest(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    answer = ask(command, "quickstrat")
    assert (answer.code, answer.out) == (2, "")
    assert "Did you mean 'quickstart'?" in answer.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_json_is_one_object_for_errors_as_well(miniature, command):
    answer = ask(command, miniature, "--set", "trial.rounds=-1", "--set", "seeds=[x]", "--json")
    assert answer.code == 2
    assert set(answer.json) == {"error", "faults"}
    assert answer.json["error"] == "ConfigError"
    assert [fault.partition(":")[0] for fault in answer.json["faults"]] == ["seeds", "trial.rounds"]


@pytest.mark.parametrize("command", ["status", "report", "track"])
@pytest.mark.parametrize("folder", [".", "absent"])
def test_a_folder_without_a_sweep_is_refused_with_advice(tmp_path, command, folder):
    answer = ask(command, tmp_path / folder)
    assert (answer.code, answer.out) == (2, "")
    assert "no sweep.json" in answer.err
    assert "Name the folder a sweep printed" in answer.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["status", "report"])
def test_a_folder_without_a_sweep_is_refused_in_json(tmp_path, command):
    answer = ask(command, tmp_path, "--json")
    assert answer.code == 2
    assert answer.json["error"] == "LedgerError"


@pytest.mark.parametrize("command", [("sweep", "--dry-run"), ("trial",)])
def test_an_address_that_cannot_be_used_is_not_taken_for_a_folder(miniature, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    answer = ask(command[0], miniature, "--out", "nowhere://bucket/sweeps", *command[1:])
    assert (answer.code, answer.out) == (2, "")
    assert "nowhere:// is not known" in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["miniature.yaml"]


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_file_in_the_place_of_the_folder_is_named(miniature, tmp_path, command):
    (tmp_path / "results").write_text("a file")
    answer = ask(command, miniature, "--out", tmp_path / "results")
    assert (answer.code, answer.out) == (2, "")
    assert str(tmp_path / "results") in answer.err


@pytest.mark.parametrize("command", ["sweep", "trial"])
def test_a_sweep_that_another_driver_holds_is_left_alone(miniature, tmp_path, command):
    driver = tmp_path / "results" / "miniature" / "driver.json"
    driver.parent.mkdir(parents=True)
    driver.write_text(json.dumps({"host": "elsewhere", "pid": 4711, "token": "theirs", "heartbeat": time.time()}))
    before = contents(tmp_path)
    answer = ask(command, miniature, "--out", tmp_path / "results", "--json")
    assert answer.code == 4
    assert answer.json["error"] == "SweepHeldError"
    assert "process 4711 on elsewhere" in answer.err
    assert contents(tmp_path) == before


# -- what would run ---------------------------------------------------------------------------------------------------


def test_a_dry_run_counts_and_writes_nothing(miniature, tmp_path):
    grid = "grid={pr_c: [0.05, 0.2], layer: [-1, -2]}"
    options = ("--set", grid, "--set", "seeds=[0, 1]", "--out", tmp_path / "results", "--dry-run", "--json")
    answer = ask("sweep", miniature, *options)
    assert answer.code == 0
    plan = answer.json
    assert (len(set(plan["to_do"]["bases"])), len(set(plan["to_do"]["trials"]))) == (2, 8)
    assert (plan["already_done"], plan["failed_before"]) == (0, [])
    assert plan["sweep"] == str(tmp_path / "results" / "miniature")
    assert "4 arms x 2 seeds; 8 trials and 2 base models to run" in answer.err
    assert [entry.name for entry in tmp_path.iterdir()] == ["miniature.yaml"]


def test_a_dry_run_counts_shared_trials_once(miniature, tmp_path):
    """Layers -1 and 8 of 8 are one layer, so two of four arms are the other two."""
    grid = "grid={pr_c: [0.05, 0.2], layer: [-1, 8]}"
    options = ("--set", grid, "--set", "seeds=[0, 1]", "--out", tmp_path / "results", "--dry-run", "--json")
    answer = ask("sweep", miniature, *options)
    assert (len(answer.json["to_do"]["bases"]), len(answer.json["to_do"]["trials"])) == (2, 4)
    assert "4 arms x 2 seeds; 4 trials and 2 base models to run; 2 arms resolve to a trial of another arm" in answer.err


# -- one trial without Ray, and what is read from its ledger ----------------------------------------------------------


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


def test_report_writes_a_figure_a_table_and_prints_a_row_per_arm_and_round(done):
    root, _ = done
    answer = ask("report", root.parent)
    assert answer.code == 0
    folder = root / "report"
    assert {path.suffix for path in folder.iterdir()} == {".png", ".svg", ".csv"}
    for path in folder.iterdir():
        assert str(path) in answer.out.splitlines()
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
    rows = ask("report", tmp_path, "--json").json["table"]
    root_two = 2**0.5
    expected = [
        {"round": 0, "seeds": 2, "f1_mean": 0.6, "f1_std": 0.2 / root_two, "eodd_mean": 0.4, "eodd_std": 0.0}
        | {"fate_mean": 0.2, "fate_std": 0.2 / root_two, "undefined": 0},
        {"round": 1, "seeds": 2, "f1_mean": 0.6, "f1_std": 0.0, "eodd_mean": 0.3, "eodd_std": 0.2 / root_two}
        | {"fate_mean": 0.2, "fate_std": None, "undefined": 1},
    ]
    for row, numbers in zip(rows, expected, strict=True):
        assert row.pop("arm") == "all"
        assert {name: row.pop(name) for name in numbers} == pytest.approx(numbers, abs=1e-9)
        assert set(row.values()) == {None}, "a ledger without predictions has no noise floors"
    text = ask("report", tmp_path).out
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
        "trials": {"done": 2, "started": 0, "waiting": 0, "failed": 0},
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
    assert answer.json["trials"] == {"done": 1, "started": 0, "waiting": 0, "failed": 1}
    assert answer.json["bases"] == {"done": 1, "of": 2}
    assert answer.json["failures"] == [failure]
    text = ask("status", root).out
    assert "failed: pr_c=0.05, seed=1: the loss became nan" in text
    assert "try again: scp-ray sweep x" in text


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
