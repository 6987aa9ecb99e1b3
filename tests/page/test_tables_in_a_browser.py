"""The tables of the report's page in a real browser: sorted, filtered, and what they open."""

from __future__ import annotations

from typing import Any

from opened_page import Opened


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


def test_a_failed_trial_tells_why_and_how_to_run_it_again_and_escape_leads_back(opened: Opened):
    button = opened.page.locator("[data-table=trials] button", has_text="t2s2")
    button.focus()
    opened.page.keyboard.press("Enter")
    panel = opened.page.locator("#detail")
    assert "the loss is NaN" in panel.inner_text() and "scp-ray sweep x --again" in panel.inner_text()
    opened.page.keyboard.press("Escape")
    assert panel.is_hidden()
    assert opened.page.evaluate("document.activeElement.textContent") == "t2s2"
