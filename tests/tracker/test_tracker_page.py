"""MLflow's own page compares the FATE curves of several trials: seen in a real browser, on a real server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow_server import Server
from trackers import begun, going_on

from scp_ray.ledger import Ledger, load_sweep
from scp_ray.tracking.replay import replay

METRIC = "val_fate_eodd_base"


@pytest.mark.slow
def test_curves_of_trials_lie_in_one_plot_at_their_rounds(ledger: Ledger, server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    sweep = begun(ledger, tmp_path, "seen")
    list(going_on(ledger, sweep))
    replay(load_sweep(sweep.root), server.uri)
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("seen").experiment_id
    runs = client.search_runs([experiment], "tags.`scp_ray.kind` = 'trial'")
    asked = {"runs": [run.info.run_id for run in runs], "metric": METRIC, "experiments": [experiment]}
    asked |= {"plot_metric_keys": [METRIC], "plot_layout": {}, "deselected_curves": [], "last_linear_y_axis_range": []}
    query = "&".join(f"{key}={quote(json.dumps(value))}" for key, value in asked.items())
    query += "&x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server.uri}/#/metric?{query}")
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 2")
        drawn = page.evaluate(
            "document.querySelector('.js-plotly-plot').data.map(({name, x, y}) => ({name, x: [...x], y: [...y]}))"
        )
        browser.close()
    curves = {each["name"].partition(" (")[0]: dict(zip(each["x"], each["y"], strict=True)) for each in drawn}
    assert set(curves) == {"pr_c=0.1, seed=0", "pr_c=0.2, seed=0"}
    for run in runs:
        rows = pd.read_parquet(sweep.root / "rounds" / f"{run.data.tags['scp_ray.id']}.parquet")
        expected = dict(zip(rows["round"], rows[METRIC], strict=True))
        assert curves[run.info.run_name] == pytest.approx(expected)
