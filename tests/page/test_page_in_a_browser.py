"""The report's page in a real browser as a whole: offline, read, printed, by keyboard, without scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from contrast import TEXTS, contrast
from opened_page import REPAIRED, Opened
from waiting import wait_for


def test_it_opens_from_disk_without_a_word_and_asks_for_nothing(opened: Opened, planted: Path):
    opened.page.wait_for_timeout(300)
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [planted.as_uri()]


def test_the_network_is_closed_to_it(opened: Opened):
    blocked = "fetch('http://127.0.0.1:9/').then(() => 'open', error => 'closed')"
    assert opened.page.evaluate(blocked) == "closed"
    assert any("Content Security Policy" in text for text in opened.said)


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


def test_a_command_is_copied(chromium: Any, planted: Path):
    shown = Opened(chromium, planted, permissions=["clipboard-read", "clipboard-write"])
    shown.page.locator("#failures .copy").click()
    wait_for(lambda: shown.page.locator("#failures .copy").inner_text() == "Copied")
    assert shown.page.evaluate("navigator.clipboard.readText()") == "scp-ray sweep x --again"
    shown.context.close()
