"""The report's page in a real browser: one Chromium for the whole file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from contrast import TEXTS, contrast, luminance, rgba
from planted_sweep import Images, eodd_by_hand, write
from three_arms import ACCURACY, BASE, SEEDS, make
from waiting import wait_for

from scp_ray.ledger import load_sweep
from scp_ray.ledger.evidence import fill_evidence
from scp_ray.report.page.page import write_page
from scp_ray.report.page.parts import PageTable, Picture, TestSection

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")

REPAIRED = "pr_c=0.2, layer=-1"
HOSTILE = "<b>é</b> 日本 </script><script>document.title='broken'</script> & %{x}"
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='300' height='80'><rect width='300' height='80' fill='#ddd'/></svg>"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as program:
        browser = program.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty arms of one seed, one of them with a hostile name."""
    images, base = Images(), Images().answers(BASE, 0)
    names = [*(f"arm {number}" for number in range(29)), HOSTILE]
    answers = {(name, 0): images.answers((0.9, 0.5 + 0.01 * at), at) for at, name in enumerate(names)}
    root = write(
        tmp_path_factory.mktemp("many") / "many", images, {name: {"pr_c": 0.1} for name in names}, answers, {0: base}
    )
    return write_page(load_sweep(root), root / "report")


class Opened:
    """A page that is ready, with all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        if options.get("java_script_enabled", True):  # drawn before the load event, which goto waits for
            assert self.page.evaluate("document.documentElement.dataset.ready")


@pytest.fixture
def opened(chromium: Any, planted: Path) -> Iterator[Opened]:
    found = Opened(chromium, planted)
    yield found
    found.context.close()


def lines(page: Any) -> list[dict[str, Any]]:
    """Names and values of the lines that are drawn, in plotly's own record."""
    script = (
        "() => [...document.getElementById('curves').data].filter(t => t.name).map(t => ({name: t.name, y: [...t.y]}))"
    )
    return list(page.evaluate(script))


def point(page: Any, arm: int, place: int) -> Any:
    """A drawn point of the arm-th line."""
    at = page.evaluate(
        "arm => [...document.getElementById('curves').data].findIndex(t => t.customdata && t.customdata[0] === arm)",
        arm,
    )
    return page.locator("#curves .scatterlayer > .trace").nth(at).locator(".points > path").nth(place)


def test_it_opens_from_disk_without_a_word_and_asks_for_nothing(opened: Opened, planted: Path):
    opened.page.wait_for_timeout(300)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [planted.as_uri()]


def test_the_network_is_closed_to_it(opened: Opened):
    blocked = "fetch('http://127.0.0.1:9/').then(() => 'open', error => 'closed')"
    assert opened.page.evaluate(blocked) == "closed"
    assert any("Content Security Policy" in text for text in opened.said)


def test_curves_are_drawn_with_the_planted_numbers(opened: Opened):
    images = Images()
    fates = []
    for seed in SEEDS:
        said, base = images.answers(ACCURACY[REPAIRED], 200 + seed), images.answers(BASE, seed)
        gaps = [eodd_by_hand(images.label, each, images.group) for each in (said, base)]
        f1 = [np.mean([macro_f1(images, each, group) for group in (0, 1)]) for each in (said, base)]
        fates.append(f1[0] / f1[1] - gaps[0] / gaps[1])
    drawn = {line["name"]: line["y"] for line in lines(opened.page)}
    assert set(drawn) == set(ACCURACY)
    assert drawn[REPAIRED] == [0, pytest.approx(np.mean(fates), rel=1e-5)]
    assert opened.page.locator("#curves .scatterlayer .js-line").count() >= 3
    assert opened.page.locator("#plane .scatterlayer .point").count() >= 3


def macro_f1(images: Images, prediction: np.ndarray, group: int) -> float:
    from sklearn.metrics import f1_score

    own = images.group == group
    return float(f1_score(images.label[own], prediction[own], average="macro"))


def test_hover_tells_configuration_numbers_n_seeds_and_floor(opened: Opened):
    opened.page.locator("#curves").scroll_into_view_if_needed()
    point(opened.page, 1, 1).hover(force=True)
    opened.page.wait_for_selector("#curves .hoverlayer .hovertext")
    said = opened.page.locator("#curves .hoverlayer").text_content()
    for part in (
        REPAIRED,
        "round 1, 3 seeds",
        "FATE of Eodd +",
        "F1 0.",
        "Eodd 0.",
        "noise floor 0.",
        "n = 240 images",
    ):
        assert part in said


def test_arms_are_hidden_by_buttons_with_mouse_and_keyboard(opened: Opened):
    button = opened.page.locator("#toggles button", has_text=REPAIRED)
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert REPAIRED not in {line["name"] for line in lines(opened.page)}
    button.focus()
    opened.page.keyboard.press("Space")
    assert button.get_attribute("aria-pressed") == "true"
    assert REPAIRED in {line["name"] for line in lines(opened.page)}


def column(page: Any, table: str, title: str) -> list[str]:
    heads = page.locator(f"[data-table={table}] thead th").all_inner_texts()
    return list(page.locator(f"[data-table={table}] tbody td:nth-child({heads.index(title) + 1})").all_inner_texts())


def test_a_table_sorts_by_click_and_by_enter(opened: Opened):
    head = opened.page.locator("[data-table=trials] th", has_text="F1").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [float(text) for text in column(opened.page, "trials", "F1") if text != "-"]
    assert numbers == sorted(numbers, reverse=True) and len(set(numbers)) > 3
    assert column(opened.page, "trials", "F1")[-1] == "-"  # the failed trial's
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in column(opened.page, "trials", "F1")[:-1]] == numbers[::-1]
    assert column(opened.page, "trials", "F1")[-1] == "-"


def test_words_with_numbers_sort_as_people_count(opened: Opened):
    opened.page.locator("[data-table=given-0] th button", has_text="method").click()
    assert column(opened.page, "given-0", "method") == ["m9", "m10"]


def test_rows_that_belong_together_stay_so(opened: Opened):
    assert column(opened.page, "given-1", "row") == [str(row) for row in range(40)]
    assert opened.page.locator("[data-table=given-1] :is(button, input)").count() == 0


def test_a_filter_keeps_the_rows_with_all_its_words(opened: Opened):
    opened.page.locator("[data-table=trials] input[type=search]").fill("layer=-2 t2s1")
    assert column(opened.page, "trials", "trial") == ["t2s1"]
    assert "1 to 1 of 1 found of 9" in opened.page.locator("[data-table=trials] .where").inner_text()


def test_a_click_on_a_point_opens_its_trials(opened: Opened):
    opened.page.locator("#curves").scroll_into_view_if_needed()
    box = point(opened.page, 1, 1).bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_selector("#curves .hoverlayer .hovertext")
    opened.page.mouse.down()
    opened.page.mouse.up()
    panel = opened.page.locator("#detail")
    panel.wait_for(state="visible")
    said = panel.inner_text()
    assert REPAIRED in said and "Each seed at round 1" in said
    assert all(f"t1s{seed}" in said for seed in SEEDS)
    panel.locator("button", has_text="t1s2").click()
    assert "Trial t1s2" in panel.inner_text() and "base2" in panel.inner_text()


@pytest.mark.parametrize("chart", ["curves", "plane"])
def test_arrow_keys_walk_the_points_of_a_chart_and_enter_opens_one(opened: Opened, chart: str):
    """Down from line to line until the repaired arm's, right to its second point, and back again after Escape."""
    page = opened.page
    page.locator(f"#{chart}").focus()
    assert page.locator(f"#{chart}").evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    spoken = page.locator(f"#{chart} + .unseen")
    page.keyboard.press("ArrowRight")
    for _ in range(3):
        if REPAIRED in spoken.inner_text():
            break
        page.keyboard.press("ArrowDown")
    assert REPAIRED in spoken.inner_text() and "F1 0." in spoken.inner_text()
    if chart == "curves":
        page.keyboard.press("ArrowRight")
        assert "round 1, 3 seeds" in spoken.inner_text()
    page.locator(f"#{chart} .hoverlayer .hovertext", has_text=REPAIRED).wait_for()  # shown a moment later
    page.keyboard.press("Enter")
    panel = page.locator("#detail")
    assert panel.is_visible()
    assert REPAIRED in panel.inner_text()
    assert ("Each seed at round 1" if chart == "curves" else "Each seed at its selected round") in panel.inner_text()
    page.keyboard.press("Escape")
    assert panel.is_hidden()
    assert page.evaluate("document.activeElement.id") == chart
    page.keyboard.press("Enter")
    assert REPAIRED in panel.inner_text(), "the same point still"
    assert opened.said == []


def test_a_failed_trial_tells_why_and_how_to_run_it_again_and_escape_leads_back(opened: Opened):
    button = opened.page.locator("[data-table=trials] button", has_text="t2s2")
    button.focus()
    opened.page.keyboard.press("Enter")
    panel = opened.page.locator("#detail")
    assert "the loss is NaN" in panel.inner_text() and "scp-ray sweep x --again" in panel.inner_text()
    opened.page.keyboard.press("Escape")
    assert panel.is_hidden()
    assert opened.page.evaluate("document.activeElement.textContent") == "t2s2"


def test_the_keyboard_reaches_every_control_in_order(opened: Opened):
    reached = []
    for _ in range(200):
        opened.page.keyboard.press("Tab")
        if opened.page.evaluate("document.activeElement === document.body"):
            break  # once around
        reached.append(opened.page.evaluate("(document.activeElement.id || document.activeElement.textContent).trim()"))
    assert reached[0] == "Skip to the answer"
    wanted = [
        "Curves and trade-offs",
        "gap",
        "baseline",
        "bands",
        "spread",
        "curves",
        "show-all",
        REPAIRED,
        "plane",
        "arm",
        "t0s0",
        "trial",
    ]
    assert set(wanted) <= set(reached)
    order = [
        reached.index(name)
        for name in ("Curves and trade-offs", "gap", "bands", "curves", "show-all", "plane", "arm", "trial", "t0s0")
    ]
    assert order == sorted(order)
    assert "detail-close" not in reached


def test_the_ratio_itself():
    """Black on white is 21; #767676 on white is the lightest grey that passes 4.5 (WebAIM)."""
    assert contrast({"ink": "rgb(0, 0, 0)", "backs": ["rgba(0, 0, 0, 0)"], "opacity": 1}) == pytest.approx(21)
    assert contrast({"ink": "rgb(118, 118, 118)", "backs": ["rgb(255, 255, 255)"], "opacity": 1}) == pytest.approx(
        4.54, abs=0.01
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(chromium: Any, planted: Path, scheme: str):
    shown = Opened(chromium, planted, color_scheme=scheme)
    shown.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    shown.page.locator("#toggles button").first.click()
    shown.page.locator("[data-table=trials] button", has_text="t2s2").click()
    texts = shown.page.evaluate(TEXTS)
    faint = {found["text"]: round(contrast(found), 2) for found in texts if contrast(found) < 4.5}
    assert len(texts) > 150 and faint == {}
    shown.context.close()


def test_the_drawings_follow_the_theme(opened: Opened):
    paper = "document.getElementById('curves').layout.paper_bgcolor"
    page_colour = "getComputedStyle(document.body).backgroundColor"
    assert (opened.page.evaluate(paper), opened.page.evaluate(page_colour)) == ("#ffffff", "rgb(255, 255, 255)")
    opened.page.emulate_media(color_scheme="dark")
    wait_for(lambda: opened.page.evaluate(paper) != "#ffffff")
    dark = opened.page.evaluate(paper)
    assert rgba(opened.page.evaluate(page_colour))[:3] == tuple(int(dark[at : at + 2], 16) for at in (1, 3, 5))
    assert luminance(rgba(opened.page.evaluate(page_colour))) < 0.05


def test_it_prints_with_everything_open(chromium: Any, planted: Path):
    shown = Opened(chromium, planted, color_scheme="dark")
    document = shown.page.pdf(format="A4", print_background=True, tagged=True, outline=True)
    assert document.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", document)) >= 3
    for heading in (b"Curves and trade-offs", b"Figures", b"Arms and trials", b"Test split", b"How to do it again"):
        assert b"(" + heading + b")" in document
    shown.page.emulate_media(media="print", color_scheme="dark")
    shown.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.page.locator("details:not([open])").count() == 0
    text = shown.page.locator("body").inner_text()
    assert "Excess: gap minus that model's own noise floor" in text  # folded away on the screen
    assert "Skip to the answer" not in text and "Copy" not in text
    assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.page.evaluate("document.getElementById('curves').layout.paper_bgcolor") == "#ffffff"
    shown.context.close()


def test_a_narrow_page_scrolls_one_way_only(chromium: Any, planted: Path):
    shown = Opened(chromium, planted, viewport={"width": 400, "height": 800})
    assert shown.page.evaluate("document.documentElement.scrollWidth") == 400
    shown.context.close()


def test_without_scripts_words_and_numbers_are_there(chromium: Any, planted: Path):
    shown = Opened(chromium, planted, java_script_enabled=False)
    text = shown.page.locator("body").inner_text()
    assert f"Best trade-off so far: {REPAIRED}" in text and "t1s2" in text and "Without JavaScript" in text
    assert "noise floor" in text and "FATE against" not in text  # no control that does nothing
    shown.context.close()


def test_many_arms_are_found_by_name_and_a_hostile_one_stays_text(chromium: Any, many: Path):
    shown = Opened(chromium, many)
    assert len(lines(shown.page)) == 8 and shown.page.locator("#toggles button").count() == 30
    shown.page.locator("#show-none").click()
    shown.page.locator("#find").fill("日本")
    assert shown.page.locator("#toggles button").all_inner_texts() == [HOSTILE]
    shown.page.locator("#toggles button").click()
    assert len(lines(shown.page)) == 1
    shown.page.locator("#curves").scroll_into_view_if_needed()
    point(shown.page, 29, 1).hover(force=True)
    shown.page.wait_for_selector("#curves .hoverlayer .hovertext")
    assert HOSTILE in shown.page.locator("#curves .hoverlayer").text_content()
    assert shown.page.locator("[data-table=arms] tbody tr").count() == 25
    shown.page.locator("[data-table=arms] button", has_text="Next").click()
    assert shown.page.locator("[data-table=arms] tbody tr").count() == 5
    assert shown.page.title() == "many: report" and shown.said == []
    shown.context.close()


def test_a_command_is_copied(chromium: Any, planted: Path):
    shown = Opened(chromium, planted, permissions=["clipboard-read", "clipboard-write"])
    shown.page.locator("#failures .copy").click()
    wait_for(lambda: shown.page.locator("#failures .copy").inner_text() == "Copied")
    assert shown.page.evaluate("navigator.clipboard.readText()") == "scp-ray sweep x --again"
    shown.context.close()
