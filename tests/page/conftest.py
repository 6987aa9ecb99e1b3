"""One Chromium a file, and the page on a planted sweep opened in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from opened_page import Opened
from three_arms import make

from scp_ray.ledger import load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.report.page.page import write_page
from scp_ray.report.page.parts import PageTable, Picture, TestSection

SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='300' height='80'><rect width='300' height='80' fill='#ddd'/></svg>"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Skips, with the reason, where there is no browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs the program chromium")
    with playwright.sync_playwright() as program:
        browser = program.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms, one trial of which failed, with evidence, a picture, a table and test numbers."""
    root = make(tmp_path_factory.mktemp("browser") / "planted")
    (root / "failures").mkdir()
    told = {
        "label": "third, seed 2",
        "kind": "Diverged",
        "reason": "the loss is NaN",
        "rerun": "scp-ray sweep x --again",
    }
    (root / "failures" / "t2s2.json").write_text(json.dumps(told))
    (root / "rounds" / "t2s2.parquet").unlink()
    sweep = load_sweep(root)
    fill_evidence(sweep)
    table = PageTable("Table 1", "made up", pd.DataFrame({"method": ["m10", "m9"], "F1": [0.5, float("nan")]}))
    blocks = PageTable("Blocks", "made up", pd.DataFrame({"row": range(40)}), sortable=False)
    test = TestSection(pd.DataFrame({"arm": ["a"], "test": [0.7]}), "Chosen among 3 configurations, shown 1 time.")
    return write_page(
        sweep, root / "report", pictures=[Picture("p", "A picture", "n = 1", SVG)], tables=[table, blocks], test=test
    )


@pytest.fixture
def opened(chromium: Any, planted: Path) -> Iterator[Opened]:
    found = Opened(chromium, planted)
    yield found
    found.context.close()
