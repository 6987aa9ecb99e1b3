"""Tables in the paper's form, against pandas and scikit-learn on the prediction files of a planted sweep."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted_sweep import CLASSES, Images, predictions, rows, write
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

import scp_ray.report.paper_marks as paper_marks
import scp_ray.report.paper_tables as paper_tables
from scp_ray.ledger import load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.report.compare import compare
from scp_ray.report.paper_formats import latex, markdown, tex
from scp_ray.report.paper_tables import paper_table, write_table

SEEDS = (0, 1, 2, 3, 4)
ISIC = {"dataset": {"name": "isic2019", "sensitive": "sex"}, "backbone": {"name": "resnet18"}}
SNNL = {"criterion": {"name": "snnl"}, "pr_c": 0.02, "layer": -1}
ARMS: dict[str, dict[str, Any]] = {
    "vanilla": ISIC | {"rounds": 0, "select": "round:0"},
    "hsic": ISIC | {"method": {"name": "hsic"}},
    "scp-fairprune": ISIC | SNNL | {"method": {"name": "fairprune"}},
    "me": ISIC | {"method": {"name": "me"}},
}
BASE = (0.95, 0.45)  # right answers of both groups; scp-fairprune repairs it, me is worse
ACCURACY = {"hsic": (0.9, 0.5), "scp-fairprune": (0.95, 0.93), "me": (0.7, 0.1)}
GAPS = ("eopp0", "eopp1", "eodd")


def make(root: Path, arms: dict[str, dict[str, Any]] = ARMS, seeds: tuple[int, ...] = SEEDS, **changes: Any) -> Path:
    images = Images()
    keys = [(label, seed) for label in arms for seed in seeds]
    said = {(a, s): images.answers(ACCURACY.get(a, (0.8, 0.6)), 50 * i + s) for i, (a, s) in enumerate(keys, 1)}
    test = {(a, s): images.answers(ACCURACY.get(a, (0.8, 0.6)), 900 * i + s) for i, (a, s) in enumerate(keys, 1)}
    bases = changes.pop("bases", None) or {seed: images.answers(BASE, 7 + seed) for seed in seeds}
    write(root, images, arms, said, bases, test)
    fill_evidence(load_sweep(root))
    return root


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("planted") / "made")


def predicted(root: Path, position: int, seed: int, split: str) -> pd.DataFrame:
    """Straight from the file; arm 0 is read at round 0, which is the base's."""
    name = f"predictions/t{position}s{seed}" if position else f"bases/base{seed}/predictions"
    return frame_of(root / f"{name}.parquet", split)


def frame_of(path: Path, split: str) -> pd.DataFrame:
    rows = pd.read_parquet(path)
    return rows[rows["split"] == split]


def by_hand(rows: pd.DataFrame) -> dict[str, float]:
    """Every number of one model: scikit-learn within groups, rates by a confusion table in pandas."""
    found: dict[str, float] = {}
    tables = {}
    for code, part in rows.groupby("tone"):
        three = precision_recall_fscore_support(part["label"], part["prediction"], average="macro", zero_division=0)
        found |= {f"{name}{code}": value for name, value in zip(("precision", "recall", "f1"), three, strict=False)}
        table = pd.crosstab(part["label"], part["prediction"])
        tables[code] = table.reindex(index=range(CLASSES), columns=range(CLASSES), fill_value=0)
    tpr, fpr = [], []
    for table in tables.values():
        right, said, true, n = (
            np.diag(table),
            table.sum(axis=0).to_numpy(),
            table.sum(axis=1).to_numpy(),
            table.to_numpy().sum(),
        )
        tpr.append(right / true)
        fpr.append((said - right) / (n - true))
    found["eopp0"] = float(np.abs(fpr[0] - fpr[1]).mean())  # TNR is 1 - FPR
    found["eopp1"] = float(np.abs(tpr[0] - tpr[1]).mean())
    found["eodd"] = float(np.abs(tpr[0] - tpr[1] + fpr[0] - fpr[1]).mean() / 2)
    return found


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_number_is_that_of_the_prediction_files(sweep: Path, split: str) -> None:
    frame = paper_table(load_sweep(sweep), split).frame
    assert list(frame["line"]) == ["Female", "Male", "Avg", "Diff"] * 4  # female is code 0 of the ISIC tables
    for position, label in enumerate(ARMS):
        rows = frame[frame["method"] == label].set_index("line")
        hands = [by_hand(predicted(sweep, position, seed, split)) for seed in SEEDS]
        bases = [by_hand(predicted(sweep, 0, seed, split)) for seed in SEEDS]
        for name in ("precision", "recall", "f1"):
            first, second = (np.array([hand[f"{name}{code}"] for hand in hands]) for code in (0, 1))
            expected = [first.mean(), second.mean(), (first + second).mean() / 2, np.abs(first - second).mean()]
            assert list(rows[name]) == pytest.approx(expected, abs=1e-9)
            assert rows.loc["Female", f"{name}_std"] == pytest.approx(first.std(ddof=1), abs=1e-9)
        for gap in GAPS:
            gaps = np.array([hand[gap] for hand in hands])
            assert list(rows[gap]) == pytest.approx([gaps.mean()] * 4, abs=1e-9)
            fates = [
                (m["f10"] + m["f11"]) / (b["f10"] + b["f11"]) - m[gap] / b[gap]
                for m, b in zip(hands, bases, strict=True)
            ]
            assert rows[f"fate_{gap}"].iloc[0] == pytest.approx(np.mean(fates), abs=1e-9)
        assert set(rows["seeds"]) == {5}
        assert set(rows["relative_to"]) == {"vanilla"}


def test_intervals_hold_the_seeds_and_all_of_the_images_noise(sweep: Path) -> None:
    """By scipy's t and the standard errors in the evidence files."""
    frame = paper_table(load_sweep(sweep)).frame
    row = frame[(frame["method"] == "hsic") & (frame["line"] == "Avg")].iloc[0]
    told = pd.concat([pd.read_parquet(sweep / f"evidence/t1s{seed}.parquet") for seed in SEEDS])
    for name in ("f1", *GAPS):
        hands = [by_hand(predicted(sweep, 1, seed, "val")) for seed in SEEDS]
        values = [(hand["f10"] + hand["f11"]) / 2 if name == "f1" else hand[name] for hand in hands]
        errors = told.loc[(told["metric"] == name) & (told["round"] == 1), "standard_error"]
        over_seeds = stats.t.ppf(0.975, 4) * stats.sem(values)
        half = math.sqrt(over_seeds**2 + stats.norm.ppf(0.975) ** 2 * (errors**2).mean())
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(
            (np.mean(values) - half, np.mean(values) + half), abs=1e-9
        )
        if name != "f1":
            floors = told.loc[(told["metric"] == name) & (told["round"] == 1)]
            assert row[f"{name}_floor"] == pytest.approx(floors["floor_mean"].mean(), abs=1e-12)
            assert row[f"{name}_excess"] == pytest.approx(np.mean(values) - floors["floor_mean"].mean(), abs=1e-9)
            assert row[f"{name}_p"] == pytest.approx(floors["p"].median(), abs=1e-12)
    precision = [np.mean([by_hand(predicted(sweep, 1, s, "val"))[f"precision{c}"] for c in (0, 1)]) for s in SEEDS]
    low, high = stats.t.interval(0.95, 4, loc=np.mean(precision), scale=stats.sem(precision))
    assert (row["precision_low"], row["precision_high"]) == pytest.approx((low, high), abs=1e-9)


def test_words_are_those_of_compare(sweep: Path) -> None:
    """The planted truth: scp-fairprune is repaired, me is worse; each p and interval as scp-ray compare says."""
    table = paper_table(load_sweep(sweep))
    once = table.frame.drop_duplicates("method").set_index("method")
    assert once.loc["scp-fairprune", ["f1_verdict", "eodd_verdict"]].tolist() == ["better", "better"]
    assert once.loc["me", ["f1_verdict", "eodd_verdict"]].tolist() == ["worse", "worse"]
    assert once.loc["vanilla", "f1_verdict"] == ""
    for label in ("hsic", "scp-fairprune", "me"):
        lines = {line.metric: line for line in compare(load_sweep(sweep), label, "vanilla").lines}
        assert once.loc[label, "f1_p_holm"] == pytest.approx(lines["f1"].p_holm, abs=1e-9)
        assert once.loc[label, "eodd_p_holm"] == pytest.approx(lines["excess_eodd"].p_holm, abs=1e-9)
        assert once.loc[label, "eodd_verdict"] == lines["excess_eodd"].verdict
        ends = once.loc[label, ["fate_eodd_low", "fate_eodd_high"]].tolist()
        assert ends == pytest.approx([lines["fate_eodd"].low, lines["fate_eodd"].high], abs=1e-9)
    assert "Holm over 6 p-values" in table.caption
    assert "n = 240 images; seeds 0 to 4; rounds selected on validation by round:0, round:1" in table.caption


def test_the_papers_numbers_stand_beside_the_methods_that_it_has(sweep: Path) -> None:
    table = paper_table(load_sweep(sweep))
    rows = table.frame.set_index(["method", "line"])
    assert rows.loc["scp-fairprune", "precision_paper"].tolist() == [0.787, 0.765, 0.776, 0.022]
    assert rows.loc["vanilla", "f1_paper"].tolist() == [0.746, 0.723, 0.735, 0.023]
    assert rows.loc["hsic", "f1_paper"].isna().all()  # pruned here, and by another criterion than the paper's
    assert rows.loc[("scp-fairprune", "Avg"), ["eodd_paper", "fate_eodd_paper"]].tolist() == [0.006, 0.7411]
    assert rows.loc["me", "f1_paper"].isna().all()
    assert "In brackets: what the paper prints (Table 2; test split of ISIC 2019, ResNet-18" in table.caption


def test_where_every_arm_prunes_each_is_relative_to_its_own_base(tmp_path: Path) -> None:
    """Supplementary Table 3: the base stands first; a printed FATE against another baseline is not shown."""
    fitzpatrick = {"dataset": {"name": "fitzpatrick17k"}, "backbone": {"name": "vgg11"}} | SNNL
    arms = {f"scp-{name}": fitzpatrick | {"method": {"name": name}} for name in ("hsic", "fairprune")}
    table = paper_table(load_sweep(make(tmp_path / "made", arms)))
    rows = table.frame.drop_duplicates("method").set_index("method")
    assert list(rows.index) == ["hsic", "scp-hsic", "scp-fairprune"]  # the planted bases are the same models
    assert list(table.frame["line"].unique()) == ["Dark", "Light", "Avg", "Diff"]
    assert rows.loc["hsic", ["fate_eodd", "fate_eodd_paper"]].tolist() == [0.0, 0.0]
    assert rows.loc["scp-hsic", ["eodd_paper", "fate_eodd_paper"]].tolist() == [0.152, 0.0683]
    assert rows.loc["scp-fairprune", "eodd_paper"] == 0.139
    assert math.isnan(rows.loc["scp-fairprune", "fate_eodd_paper"])  # 0.2559 is relative to VGG-11
    dark = by_hand(predicted(tmp_path / "made", 0, 0, "val"))["f11"]  # dark is code 1
    one = make(tmp_path / "one", arms, seeds=(0,))
    first = paper_table(load_sweep(one)).frame.iloc[0]
    assert (first["line"], first["f1"]) == ("Dark", pytest.approx(dark, abs=1e-9))


def test_the_vanilla_models_stand_first_where_no_arm_is_them(tmp_path: Path) -> None:
    """As for FairAdaBN, whose backbone has batch norm: no trial begins from them, and their evidence is their own."""
    root, images = make(tmp_path / "made", {"me": ARMS["me"], "plain": ARMS["vanilla"]}, seeds=(0, 1)), Images()
    for seed in (0, 1):
        folder = root / "bases" / f"vanilla{seed}"
        shutil.copytree(root / "bases" / f"base{seed}", folder)
        (folder / "evidence.parquet").unlink()
        said = images.answers((0.8, 0.4), 70 + seed)
        pq.write_table(predictions(images, {0: said}), folder / "predictions.parquet")
        pq.write_table(rows(images, "", f"vanilla{seed}", seed, {0: said}), folder / "rounds.parquet")
    text = (root / "sweep.json").read_text()
    (root / "sweep.json").write_text(re.sub(r'"vanilla_id": "base', '"vanilla_id": "vanilla', text))
    fill_evidence(load_sweep(root))
    for split in ("val", "test"):
        frame = paper_table(load_sweep(root), split).frame.drop_duplicates("method").set_index("method")
        assert list(frame.index) == ["vanilla", "me", "plain"]
        assert set(frame["relative_to"]) == {"vanilla"}
        hands = [
            [by_hand(frame_of(root / f"{name}{seed}{rest}.parquet", split)) for seed in (0, 1)]
            for name, rest in (("predictions/t0s", ""), ("bases/vanilla", "/predictions"))
        ]
        fates = [
            (m["f10"] + m["f11"]) / (b["f10"] + b["f11"]) - m["eopp1"] / b["eopp1"] for m, b in zip(*hands, strict=True)
        ]
        assert frame.loc["me", "fate_eopp1"] == pytest.approx(np.mean(fates), abs=1e-9)
        assert frame.loc["vanilla", "eodd"] == pytest.approx(np.mean([b["eodd"] for b in hands[1]]), abs=1e-9)
        assert frame["eodd_floor"].notna().all()


def test_one_seed_has_the_images_interval_and_says_so(tmp_path: Path) -> None:
    root = make(tmp_path / "made", seeds=(0,))
    table = paper_table(load_sweep(root))
    row = table.frame[table.frame["line"] == "Avg"].set_index("method").loc["scp-fairprune"]
    told = pd.read_parquet(root / "evidence/t2s0.parquet").set_index("metric").loc["f1"]
    assert row["f1_high"] - row["f1"] == pytest.approx(1.959964 * told["standard_error"], rel=1e-6)
    assert math.isnan(row["f1_std"])
    assert math.isnan(row["precision_low"])
    assert row["f1_verdict"] == "better for this one training"
    assert "One training" in table.caption
    assert "For this one training." in table.caption
    assert re.search(r"\| \d\.\d{3} ± \d\.\d{3} \(0\.736\) better \|", markdown(table.frame, "", []))


def test_what_is_missing_is_a_dash_and_a_note(tmp_path: Path) -> None:
    root = make(tmp_path / "made", seeds=(0, 1, 2))
    for name in ("t1s0", "t1s1", "t1s2", "t3s1"):
        (root / f"rounds/{name}.parquet").unlink()
    table = paper_table(load_sweep(root))
    rows = table.frame.drop_duplicates("method").set_index("method")
    assert rows["seeds"].to_dict() == {"vanilla": 3, "hsic": 0, "scp-fairprune": 3, "me": 2}
    assert math.isnan(rows.loc["hsic", "f1"])
    hands = [by_hand(predicted(root, 3, seed, "val"))["eodd"] for seed in (0, 2)]
    assert rows.loc["me", "eodd"] == pytest.approx(np.mean(hands), abs=1e-9)
    text = " ".join(table.notes)
    assert "4 of 12 trials are not finished, and left out." in text
    assert "nothing is finished yet of hsic." in text
    assert "Fewer seeds than the others have: me (2)." in text
    assert "| hsic | Female | - | - | - | - | - | - |" in markdown(table.frame, "", [])


def test_nothing_finished_at_all(tmp_path: Path) -> None:
    root = make(tmp_path / "made", seeds=(0, 1, 2))
    for path in (root / "rounds").iterdir():
        path.unlink()
    table = paper_table(load_sweep(root))
    assert (table.frame["seeds"] == 0).all()
    assert "12 of 12 trials are not finished" in table.notes[0]
    assert "nan" not in markdown(table.frame, table.caption, table.notes)


def test_a_base_without_a_gap_has_no_fate(tmp_path: Path) -> None:
    images = Images()
    perfect = {0: images.label, 1: images.answers((0.9, 0.4), 1), 2: images.label}
    table = paper_table(load_sweep(make(tmp_path / "made", seeds=(0, 1, 2), bases=perfect)))
    row = table.frame.drop_duplicates("method").set_index("method").loc["me"]
    assert row["fate_eodd_undefined"] == 2
    hand, base = (by_hand(predicted(tmp_path / "made", place, 1, "val")) for place in (3, 0))
    expected = (hand["f10"] + hand["f11"]) / (base["f10"] + base["f11"]) - hand["eodd"] / base["eodd"]
    assert row["fate_eodd"] == pytest.approx(expected, abs=1e-9)
    assert math.isnan(row["fate_eodd_low"])
    text = " ".join(table.notes)
    assert "FATE of Eodd is undefined in some seeds (its baseline's gap is 0): vanilla (2), hsic (2)" in text
    assert re.search(r"where it divides by a gap that chance alone would show: .*Eodd of vanilla", text)


def test_fate_has_no_interval_where_the_bases_gap_may_be_noise(tmp_path: Path) -> None:
    images = Images()
    root = make(tmp_path / "made", seeds=(0, 1), bases={0: images.answers(BASE, 7), 1: images.answers((0.8, 0.8), 8)})
    told = [pd.read_parquet(root / f"bases/base{seed}/evidence.parquet").set_index("metric") for seed in (0, 1)]
    real = [each.loc["eodd", "observed"] > each.loc["eodd", "floor_high"] for each in told]
    assert real == [True, False]
    row = paper_table(load_sweep(root)).frame.drop_duplicates("method").set_index("method").loc["me"]
    assert math.isfinite(row["fate_eodd"])
    assert math.isnan(row["fate_eodd_low"])
    assert math.isnan(row["fate_eodd_high"])


def test_too_many_models_get_no_marks_and_are_told_so(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_marks, "MODELS", 19)
    table = paper_table(load_sweep(sweep))
    assert (table.frame["f1_verdict"] == "").all()
    assert table.frame["fate_eodd_low"].isna().all()
    assert table.frame["f1_low"].notna().all()
    assert any("20 models are too many" in note for note in table.notes)
    monkeypatch.setattr(paper_tables, "MODELS", 19)
    tested = paper_table(load_sweep(sweep), "test")
    assert tested.frame["eodd_floor"].isna().all()
    assert any("No evidence for some rows" in note for note in tested.notes)


def test_predictions_that_are_gone(tmp_path: Path) -> None:
    root = make(tmp_path / "made", seeds=(0, 1))
    (root / "predictions/t2s1.parquet").unlink()
    table = paper_table(load_sweep(root))
    assert (table.frame["f1_verdict"] == "").all()
    assert any(note.startswith("Nothing is marked: ") and "t2s1" in note for note in table.notes)


def test_files_of_both_splits_lie_beside_each_other(sweep: Path, tmp_path: Path) -> None:
    files = [path for split in ("val", "test") for path in write_table(paper_table(load_sweep(sweep), split), tmp_path)]
    assert sorted(path.name for path in files) == sorted(
        f"table-{split}.{kind}" for split in ("val", "test") for kind in ("csv", "md", "tex")
    )
    frames = [pd.read_csv(tmp_path / f"table-{split}.csv") for split in ("val", "test")]
    hand = by_hand(predicted(sweep, 2, 0, "test"))
    assert frames[1].columns.tolist() == frames[0].columns.tolist()
    assert not math.isclose(frames[0]["eodd"][8], frames[1]["eodd"][8])
    assert 0 < hand["eodd"] < 1
    assert (tmp_path / "table-test.md").read_text().startswith("made: isic2019, resnet18. Test split, n = 240")


AWKWARD = r'50% & a_b #1 {x} $5 ~^\ <pr_c|"q"> β ≥ 0.5 [z] é'


def test_names_are_escaped() -> None:
    assert tex("a_b & 5%") == r"a\_b \& 5\%"
    assert tex("layer=-1, x-y, 0.1 ± 2") == r"layer=$-$1, x-y, 0.1 $\pm$ 2"
    assert tex("β") == "{[}U+03B2]"
    assert tex("\\{") == r"\textbackslash{}\{"


def test_markdown_has_eight_cells_whatever_an_arm_is_called(tmp_path: Path) -> None:
    root = make(tmp_path / "made", {AWKWARD: ISIC, "plain": ISIC}, seeds=(0,))
    lines = [line for line in markdown(paper_table(load_sweep(root)).frame, "c", []).splitlines() if line[:1] == "|"]
    assert len(lines) == 2 + 3 * 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {9}


@pytest.mark.parametrize("copies", [1, 4])
def test_latex_compiles(tmp_path: Path, copies: int) -> None:
    """As one float, and over several pages."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex (Debian: texlive-latex-base, texlive-latex-recommended)")
    table = paper_table(load_sweep(make(tmp_path / "made", {AWKWARD: ISIC, "plain": ISIC}, seeds=(0, 1))))
    frame = pd.concat([table.frame] * copies)
    text = latex(frame, f"{table.caption} {AWKWARD}", ["and _this_"], label="tab:val")
    assert ("longtable" in text) == (copies > 1)
    (tmp_path / "table.tex").write_text(text, encoding="utf-8")
    packages = r"\usepackage[a4paper,margin=2cm]{geometry}\usepackage{booktabs,graphicx,longtable}"
    page = "\\documentclass{article}" + packages + "\\begin{document}\\input{table.tex}\\end{document}\n"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    log = (tmp_path / "page.log").read_text(encoding="latin-1")
    assert run.returncode == 0, log[-2000:]
    assert "Output written on page.pdf" in log
    assert "Overfull" not in log
