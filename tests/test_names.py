"""Names of folders and files: too long for any disk, and of other alphabets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from miniature import SPACE, TRIAL, same_ledgers
from recording import record, space_file

from scp_ray.cli.main import main

LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "SPACE", "--out", LONG),
        ("trial", "SPACE", "--out", LONG),
        ("sweep", LONG),
        ("status", LONG),
        ("report", LONG),
        ("track", LONG),
        ("sweep", "SPACE", "--out", "/".join(["y" * 200] * 25)),
        ("sweep", "SPACE", "--out", "OUT", "--set", f"trial.dataset.root={LONG}"),
        ("status", "/nowhere/at/all"),
        ("sweep", "/nowhere/at/all.yaml"),
    ],
    ids=lambda words: "-".join(word[:9] for word in words),
)
def test_names_that_no_disk_takes_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    space = tmp_path / "space.yaml"
    dataset: dict[str, Any] = {"name": "isic2019", "root": "."} if "--set" in arguments else TRIAL["dataset"]
    space.write_text(yaml.safe_dump(SPACE | {"trial": TRIAL | {"dataset": dataset}}))
    monkeypatch.chdir(tmp_path)
    words = {"SPACE": str(space), "OUT": str(tmp_path / "out")}
    assert main([words.get(word, word) for word in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("scp-ray: ") or "scp-ray: " in told
    assert "Traceback" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["space.yaml"]


def test_spaces_and_other_alphabets_in_names(tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    record(undisturbed)
    out = tmp_path / "Ergebnisse der Prüfung 結果 🩺"
    assert main(["trial", str(space_file(tmp_path)), "--out", str(out)]) == 0
    assert main(["report", str(out / "miniature")]) == 0
    same_ledgers(undisturbed, out / "miniature")
