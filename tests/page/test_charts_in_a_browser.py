"""The charts of the report's page in a real browser: numbers, hover, hide, mouse and keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contrast import luminance, rgba
from opened_page import REPAIRED, Opened
from planted_sweep import Images, eodd_by_hand, write
from three_arms import ACCURACY, BASE, SEEDS
from waiting import wait_for

from scp_ray.ledger import load_sweep
from scp_ray.report.page.page import write_page

HOSTILE = "<b>é</b> 日本 </script><script>document.title='broken'</script> & %{x}"


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


def test_the_models_before_pruning_are_told_by_keyboard_too(opened: Opened):
    """The star lies last: up from the first line. It opens nothing."""
    page = opened.page
    page.locator("#plane").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    spoken = page.locator("#plane + .unseen")
    images = Images()
    gaps = [eodd_by_hand(images.label, images.answers(BASE, seed), images.group) for seed in SEEDS]
    assert "before pruning" in spoken.inner_text()
    assert f"Eodd {np.mean(gaps):.4f}" in spoken.inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#detail").is_hidden()
    page.keyboard.press("ArrowDown")
    assert "before pruning" not in spoken.inner_text()
    page.keyboard.press("Escape")
    assert opened.said == []


def test_the_drawings_follow_the_theme(opened: Opened):
    paper = "document.getElementById('curves').layout.paper_bgcolor"
    page_colour = "getComputedStyle(document.body).backgroundColor"
    assert (opened.page.evaluate(paper), opened.page.evaluate(page_colour)) == ("#ffffff", "rgb(255, 255, 255)")
    opened.page.emulate_media(color_scheme="dark")
    wait_for(lambda: opened.page.evaluate(paper) != "#ffffff")
    dark = opened.page.evaluate(paper)
    assert rgba(opened.page.evaluate(page_colour))[:3] == tuple(int(dark[at : at + 2], 16) for at in (1, 3, 5))
    assert luminance(rgba(opened.page.evaluate(page_colour))) < 0.05


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
