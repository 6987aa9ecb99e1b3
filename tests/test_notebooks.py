"""The notebooks of analysis/: run on a small sweep, what they show found again by pandas from the ledger's files."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import pytest
from miniature import SPACE, TRIAL
from nbclient import NotebookClient
from PIL import Image
from trackers import make_ledger

from scp_ray.ledger import Ledger, load_sweep
from scp_ray.tracking.replay import replay

ROOT = Path(__file__).parents[1]
ANALYSIS = ROOT / "analysis"
NAMES = [
    *("01_fate_curves", "02_layers_and_ratios", "03_tradeoff_search", "04_channel_atlas", "05_is_it_real"),
    "06_published_vs_ours",
]
SWEEP: dict[str, Any] = SPACE | {
    "name": "lesson",
    "trial": TRIAL | {"select": "round:2"},
    "grid": {"pr_c": [0.1, 0.2], "layer": [-1, -2]},
    "seeds": [0, 1],
}
SHOWN = 5e-7  # half of the last digit that pandas shows


class Runner:
    """Runs notebooks one after the other in one kernel, each with a name space of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._client = NotebookClient(nbformat.v4.new_notebook(), timeout=300, kernel_name="python3")
        self._client.resources = {"metadata": {"path": str(folder)}}

    def run(self, name: str, address: str) -> list[Any]:
        """The outputs of its cells, in order; the file stays as it is."""
        book = nbformat.read(ANALYSIS / f"{name}.ipynb", as_version=4)
        start = f"%reset -f\nimport os\nos.environ['SCP_RAY_SWEEP'] = {address!r}"
        book.cells.insert(0, nbformat.v4.new_code_cell(start))
        self._client.nb = book
        self._client.execute(cleanup_kc=False)
        outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
        warned = [output.text for output in outputs if output.get("name") == "stderr"]
        # what mlflow's imports say where there are no widgets
        assert [words for words in warned if "IProgress not found" not in words] == []
        return outputs

    def close(self) -> None:
        self._client._cleanup_kernel()


@pytest.fixture(scope="module")
def runner(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """In a folder of its own, where it leaves nothing."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        runner = Runner(folder)
        yield runner
        runner.close()
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def ledger(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Two ratios, two layers, two seeds, two rounds."""
    return make_ledger(tmp_path_factory.mktemp("lesson") / "sweep", SWEEP)


@pytest.fixture(scope="module")
def shown(runner: Runner, ledger: Ledger) -> dict[str, list[Any]]:
    """What each notebook shows of the sweep's folder."""
    return {name: runner.run(name, str(ledger.root)) for name in NAMES}


@pytest.fixture(scope="module")
def rounds(ledger: Ledger) -> pd.DataFrame:
    """By pandas alone: a row per arm, seed and round."""
    arms = json.loads(ledger.definition_path.read_text())["arms"]
    rows = [
        pd.read_parquet(ledger.root / "rounds" / f"{trial['trial_id']}.parquet").assign(arm=arm["label"])
        for arm in arms
        for trial in arm["trials"]
    ]
    return pd.concat(rows, ignore_index=True)


def tables(outputs: list[Any]) -> list[pd.DataFrame]:
    """Every frame that is shown, numbers as numbers."""
    found = []
    for output in outputs:
        html = output.get("data", {}).get("text/html", "")
        if "<table" in html:
            root = ElementTree.fromstring(re.sub("<style.*?</style>", "", html, flags=re.DOTALL))
            rows = [[cell.text or "" for cell in row.findall("td")] for row in root.findall(".//tbody/tr")]
            heads = [cell.text or "" for cell in root.findall(".//thead/tr[1]/th")]  # of the index, then of the columns
            frame = pd.DataFrame(rows, columns=heads[-len(rows[0]) :])
            found.append(frame.apply(_numbers))
    return found


def _numbers(column: pd.Series) -> pd.Series:
    try:
        return pd.to_numeric(column)
    except ValueError:
        return column


def text(outputs: list[Any]) -> str:
    return "\n".join(output.text for output in outputs if output.output_type == "stream")


def pictures(outputs: list[Any]) -> list[np.ndarray]:
    found = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("L")) for each in found]


# -- the files --------------------------------------------------------------------------------------------------------


def test_there_are_these_and_each_is_named_in_the_readme() -> None:
    assert sorted(path.stem for path in ANALYSIS.glob("*.ipynb")) == NAMES
    readme = (ANALYSIS / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(\w+)\]\((\w+)\.ipynb\)", readme, flags=re.MULTILINE) == [(name, name) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_stripped_and_begins_with_one_line_to_edit(name: str) -> None:
    book = nbformat.read(ANALYSIS / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count is not None or cell.metadata] == []
    assert set(book.metadata) == {"kernelspec", "language_info"}
    addresses = [line for cell in code for line in cell.source.splitlines() if "SCP_RAY_SWEEP" in line]
    assert addresses == [line for line in code[0].source.splitlines() if line.startswith("SWEEP = os.environ.get(")]
    assert len(addresses) == 1
    assert book.cells[0].source.startswith("# ") and "**The question.**" in book.cells[0].source
    assert "cannot say" in book.cells[-1].source
    assert sum("How to read it" in cell.source for cell in book.cells) >= 1
    assert max(len(cell.source.splitlines()) for cell in code) <= 18, "thin: what needs more belongs in scp_ray.report"


# -- what they show ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [*zip(NAMES, (3, 3, 3, 3, 1, 2), strict=True)])
def test_every_picture_is_drawn(shown: dict[str, list[Any]], name: str, count: int) -> None:
    drawn = pictures(shown[name])
    assert len(drawn) == count
    assert all(min(each.shape) > 500 and (each < 128).mean() > 0.002 for each in drawn)
    assert "Not drawn" not in json.dumps(shown[name])


def test_fate_curves_are_means_over_seeds(shown: dict[str, list[Any]], rounds: pd.DataFrame) -> None:
    trials, curves = tables(shown["01_fate_curves"])
    assert (trials["status"] == "done").all() and (trials["selected_round"] == 2).all() and len(trials) == 8
    groups = rounds.groupby(["arm", "round"], sort=False)
    names = {"f1_mean": "val_f1", "eodd_mean": "val_eodd", "fate_mean": "val_fate_eodd_base"}
    keys = list(zip(curves["arm"], curves["round"], strict=True))
    assert len(keys) == 4 * 3 and (curves["seeds"] == 2).all()
    for shown_name, column in names.items():
        expected = groups[column].mean().loc[keys].to_numpy()
        np.testing.assert_allclose(curves[shown_name], expected, rtol=0, atol=SHOWN)
    spread = groups["val_fate_eodd_base"].std().loc[keys].to_numpy()
    np.testing.assert_allclose(curves["fate_std"], spread, rtol=0, atol=SHOWN)


def test_cells_are_means_at_the_selected_round(shown: dict[str, list[Any]], rounds: pd.DataFrame) -> None:
    (cells,) = tables(shown["02_layers_and_ratios"])
    last = rounds[rounds["round"] == 2].groupby("arm")[["val_fate_eodd_base", "val_f1", "val_eodd"]].mean()
    assert len(cells) == 4
    for row in cells.to_dict("records"):
        expected = last.loc[f"pr_c={row['across']}, layer={row['down']}"]
        np.testing.assert_allclose([row["fate"], row["f1"], row["eodd"]], expected, rtol=0, atol=SHOWN)


def test_the_best_of_each_is_the_best_mean(shown: dict[str, list[Any]], rounds: pd.DataFrame) -> None:
    means = rounds[rounds["round"] == 2].groupby("arm")[["val_f1", "val_eodd"]].mean()
    said = text(shown["03_tradeoff_search"])
    assert "4 configurations are done, 4 were tried" in said
    assert f"best F1 without a constraint: {means['val_f1'].max():.4f} (" in said
    assert f"best Eodd without a constraint: {means['val_eodd'].min():.4f} (" in said
    (front,) = tables(shown["03_tradeoff_search"])
    beaten = {
        a
        for a, b in itertools.permutations(means.index, 2)
        if (means.loc[b, "val_f1"] >= means.loc[a, "val_f1"] and means.loc[b, "val_eodd"] <= means.loc[a, "val_eodd"])
        and not means.loc[a].equals(means.loc[b])
    }
    assert set(front["configuration"]) == set(means.index) - beaten


def test_overlaps_are_those_of_the_pruned_sets(
    shown: dict[str, list[Any]], rounds: pd.DataFrame, ledger: Ledger
) -> None:
    sets = {}
    for (arm, seed, trial), _ in rounds.groupby(["arm", "seed", "trial_id"]):
        channels = pd.read_parquet(ledger.root / "channels" / f"{trial}.parquet")
        sets[arm, seed] = set(channels.loc[channels["pruned"], "channel"])
    between = [
        len(sets[a, seed] & sets[b, seed]) / len(sets[a, seed] | sets[b, seed])
        for seed in (0, 1)
        for a, b in itertools.combinations(rounds["arm"].unique(), 2)
        if a.partition("layer")[2] == b.partition("layer")[2]  # of other layers there is nothing to compare
    ]
    overlaps = tables(shown["04_channel_atlas"])[-1].set_index("name")
    assert overlaps.loc["between arms of a seed", "pairs"] == len(between) == 4
    assert overlaps.loc["between arms of a seed", "jaccard"] == pytest.approx(np.mean(between), abs=SHOWN)
    for arm in rounds["arm"].unique():
        seeds = len(sets[arm, 0] & sets[arm, 1]) / len(sets[arm, 0] | sets[arm, 1])
        assert overlaps.loc[arm, "jaccard"] == pytest.approx(seeds, abs=SHOWN)


def test_floors_are_the_ledgers_and_the_difference_is_paired(
    shown: dict[str, list[Any]], rounds: pd.DataFrame, ledger: Ledger
) -> None:
    found = [
        pd.read_parquet(ledger.root / "evidence" / f"{trial}.parquet").assign(arm=arm)
        for arm, trial in rounds[["arm", "trial_id"]].drop_duplicates().itertuples(index=False)
    ]
    evidence = pd.concat(found, ignore_index=True)
    floors = evidence[evidence["metric"] == "eodd"].groupby(["arm", "round"])["floor_mean"].mean()
    (table,) = tables(shown["05_is_it_real"])
    pruned = table[table["round"] > 0]
    assert len(pruned) == 8
    expected = floors.loc[list(zip(pruned["arm"], pruned["round"], strict=True))]
    np.testing.assert_allclose(pruned["eodd_floor"], expected, rtol=0, atol=SHOWN)
    said = text(shown["05_is_it_real"])
    best = rounds[rounds["round"] == 2].groupby("arm")["val_fate_eodd_base"].mean().idxmax()
    assert f"A: {best} (round 2)\nB: the models before pruning (round 0)" in said
    own = rounds[rounds["arm"] == best]
    f1 = own[own["round"] == 2]["val_f1"].mean(), own[own["round"] == 0]["val_f1"].mean()
    cells = next(line for line in said.splitlines() if line.startswith("F1 ")).split()
    assert cells[1:4] == [f"{f1[0]:.4f}", f"{f1[1]:.4f}", f"{f1[0] - f1[1]:+.4f}"]


def test_ours_stand_beside_the_published(shown: dict[str, list[Any]], rounds: pd.DataFrame) -> None:
    audit, ours = tables(shown["06_published_vs_ours"])
    assert "69 cells, 56 agree, 13 do not" in text(shown["06_published_vs_ours"])
    assert len(audit) == 13
    means = rounds[rounds["round"] == 2].groupby("arm")["val_f1"].mean()
    by_method = ours.set_index("method")["f1"]
    assert set(means.index) <= set(by_method.index)
    np.testing.assert_allclose(by_method[means.index], means, rtol=0, atol=SHOWN)


def test_the_published_need_no_sweep(runner: Runner, shown: dict[str, list[Any]]) -> None:
    alone = runner.run("06_published_vs_ours", "")
    assert text(alone) == text(shown["06_published_vs_ours"])
    assert len(tables(alone)) == 1 and len(pictures(alone)) == 1


@pytest.mark.parametrize("name", NAMES[:2])
def test_mlflow_alone_gives_the_same_numbers(
    runner: Runner, ledger: Ledger, shown: dict[str, list[Any]], tracked: str, name: str
) -> None:
    outputs = runner.run(name, tracked)
    order = {"by": ["arm", "round"] if name == NAMES[0] else ["down", "across"], "ignore_index": True}
    left, right = (tables(each)[-1].sort_values(**order) for each in (outputs, shown[name]))
    pd.testing.assert_frame_equal(left, right)
    assert len(pictures(outputs)) == len(pictures(shown[name]))
    assert "Not drawn" not in json.dumps(outputs)


@pytest.fixture(scope="module")
def tracked(ledger: Ledger) -> str:
    uri = f"sqlite:///{ledger.root / 'mlflow.db'}"
    replay(load_sweep(ledger.root), uri)
    return f"mlflow+{uri}#lesson"
