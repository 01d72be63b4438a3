"""The page of a report in real Chromium: all of it is reached by mouse, by keys and by ear, and it runs nothing foreign."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import _report_browser as chromium
from _report_subject import report

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason=chromium.MISSING)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chromium.write(report(4, 10, 50), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with chromium.browser() as browser:
        yield browser


@pytest.fixture
def page(started: Any, path: Path) -> Iterator[Any]:
    opened = chromium.opened(started, path)
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    yield opened
    opened.close()
    assert faults == []


def test_a_page_of_four_cells_is_small_and_fetches_nothing(page: Any, path: Path) -> None:
    assert path.stat().st_size <= 2_000_000
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_the_verdict_says_what_failed_where_it_starts_and_why(page: Any) -> None:
    verdict = page.locator(".verdict").inner_text()
    assert "positions are WRONG in mine/qwen/Q0/prefill, from position 16 on" in verdict
    assert chromium.FIRST in verdict and chromium.CAUSE in verdict
    assert "logitproof diagnose" in page.locator(".next").inner_text()
    assert chromium.clicks_to_cause(page) <= 3


def test_rows_are_chosen_by_what_stands_in_a_column_and_by_words(page: Any) -> None:
    rows = page.locator("table[data-filters]").first.locator("tbody tr:not(.notes):not(.group):not(.hidden)")
    assert rows.count() == 4
    page.locator(".controls").first.locator("label", has_text="status").locator("select").select_option("✘ WRONG")
    assert rows.count() == 2
    page.get_by_label("contains").first.fill("decode")
    assert rows.count() == 1 and "Q2" in rows.first.inner_text()


def gathered(page: Any) -> list[str]:
    """The groups of the matrix that are seen, each as its reader hears it."""
    seen = page.locator("table[data-filters]").first.locator("tr.group:not(.hidden) button")
    return [f"{button.inner_text().strip('▸▾ ')} {button.get_attribute('aria-expanded')}" for button in seen.all()]


def test_the_matrix_is_gathered_by_any_axis_and_folded_by_mouse_and_keys(page: Any) -> None:
    matrix = page.locator("table[data-filters]").first
    rows = matrix.locator("tbody tr:not(.notes):not(.group):not(.hidden)")
    controls = page.locator(".controls").first
    axes = controls.get_by_label("gather by").locator("option").all_inner_texts()
    assert axes == ["nothing", "quantization", "candidate", "mode"], "axes with one value gather nothing"
    controls.get_by_label("gather by").select_option(label="candidate")
    controls.get_by_label("then by").select_option(label="mode")
    inner = ["mode prefill true", "mode decode true"]
    assert gathered(page) == ["candidate mine true", *inner, "candidate other true", *inner]
    assert "2 of 2: 2 × ✘ WRONG" in matrix.locator("tr.group").first.inner_text()
    matrix.get_by_role("button", name="candidate mine").click()
    assert gathered(page) == ["candidate mine false", "candidate other true", *inner] and rows.count() == 2
    assert "4 of 4 rows, 2 folded away" in controls.inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert gathered(page) == ["candidate mine false", "candidate other false"] and rows.count() == 0
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent").endswith("mode decode")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.textContent").endswith("candidate other")
    assert rows.count() == 1
    controls.get_by_role("button", name="unfold all").click()
    assert rows.count() == 4
    page.get_by_label("contains").first.fill("decode")
    assert rows.count() == 2 and "1 of 2" in matrix.locator("tr.group").first.inner_text()
    assert [text for text in gathered(page) if "prefill" in text] == []
    controls.get_by_label("gather by").select_option(label="nothing")
    assert matrix.locator("tr.group").count() == 0 and rows.count() == 2
    assert page.locator("table[data-filters]").first.locator("tr.notes:not(.hidden)").count() == 1


def test_a_long_matrix_opens_with_what_failed_unfolded_and_prints_whole(started: Any, tmp_path: Path) -> None:
    page = chromium.opened(started, chromium.write(report(16, 2, 6), tmp_path))
    rows = page.locator("table[data-filters]").first.locator("tbody tr:not(.notes):not(.group):not(.hidden)")
    assert gathered(page) == ["candidate mine true", "candidate other false"] and rows.count() == 8
    assert chromium.axe_violations(page) == []
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert rows.count() == 16
    page.close()


def test_a_gate_leads_to_the_prompt_and_position_that_decide_it(page: Any) -> None:
    row = page.locator("tr", has=page.locator("a[href^='#at-']")).first
    where = row.locator("xpath=following-sibling::tr").first.inner_text()
    row.locator("a").click()
    shown = page.locator(".where").inner_text()
    prompt, position = where.split("worst at prompt ")[1].split(":")[0].split(", ")
    assert shown.startswith(f"{prompt}, {position}: WRONG")
    assert page.locator(".explorer").bounding_box()["y"] < 900


def test_the_map_is_moved_about_in_by_keys_and_zoomed(page: Any) -> None:
    page.locator("canvas").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    before = page.locator("div.plot").bounding_box()["width"]
    chosen = page.locator("[aria-current='true']").inner_text()
    assert page.locator(".where").inner_text().startswith(chosen.split(" ", 1)[1])
    page.keyboard.press("+")
    assert page.locator("div.plot").bounding_box()["width"] > before
    page.get_by_role("button", name="zoom out").click()
    assert page.locator("div.plot").bounding_box()["width"] == before


def test_a_click_on_a_square_and_a_hover_over_it_say_the_same(page: Any) -> None:
    page.locator("canvas").scroll_into_view_if_needed()
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + 20 * 12 + 4, box["y"] + 18 + 24 + 6)
    hovered = page.locator(".where").inner_text()
    page.mouse.down()
    page.mouse.up()
    assert hovered.startswith("prompt 1, position 20: WRONG") and page.locator(".where").inner_text() == hovered


@pytest.mark.parametrize("by", ["mouse", "keys"])
def test_a_token_shows_the_top_five_of_both_sides(page: Any, by: str) -> None:
    if by == "mouse":
        page.locator("#token-20").hover()
    else:
        page.locator(".tokens").focus()
        for key in ("Home", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
    text = page.locator(".inspect").inner_text()
    assert "position 20: ✘ WRONG" in text and "margin" in text and "reference" in text
    assert page.locator(".inspect tbody tr").count() == 5
    assert page.locator("#token-20").get_attribute("aria-selected") == "true"


def test_the_first_difference_is_marked_and_signs_stand_beside_colours(page: Any) -> None:
    first = page.locator(".token.first")
    assert first.count() == 1 and "first difference" in first.get_attribute("aria-label")
    assert "first" in page.evaluate("getComputedStyle(document.querySelector('.token.first'), '::before').content")
    assert page.locator(".token.WRONG .sign").first.inner_text() == "✘"


@pytest.mark.parametrize("metric", ["KL", "Δlogit", "rank"])
def test_every_metric_tints_map_and_tokens(page: Any, metric: str) -> None:
    page.get_by_label(metric, exact=True).check()
    assert page.locator(".shades").inner_text().startswith(metric)
    tints = page.evaluate("[...new Set([...document.querySelectorAll('.token')].map((token) => token.style.background))]")
    assert len(tints) > 1


def test_what_a_model_says_is_text(page: Any) -> None:
    for cell in range(4):
        page.locator(".explorer select").select_option(str(cell))
    assert not chromium.xss_executed(page)
    data = page.evaluate("JSON.parse(document.querySelector('.explorer script').textContent).words.qwen")
    assert any("<script>window.__owned" in word for word in data.values())
    made = "const made = document.createElement('script'); made.textContent = 'window.__owned = 1'"
    page.evaluate(f"{made}; document.body.append(made)")
    assert not chromium.xss_executed(page), "the policy lets no other script run"


@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}], ids=str)
def test_axe_finds_nothing_and_nothing_is_cut_off(started: Any, path: Path, options: dict[str, Any]) -> None:
    page = chromium.opened(started, path, **options)
    assert chromium.axe_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_legends_and_names_of_a_picture_have_the_colour_of_text(started: Any, path: Path, scheme: str) -> None:
    page = chromium.opened(started, path, color_scheme=scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    fills = "[...new Set([...document.querySelectorAll('svg.lp-grid > text')].map((text) => getComputedStyle(text).fill))]"
    assert page.evaluate(fills) == page.evaluate("[getComputedStyle(document.querySelector('.logitproof')).color]")
    page.close()


def test_no_column_is_cut_off_on_paper(page: Any) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    cut = "[...document.querySelectorAll('table')].filter((table) => table.getBoundingClientRect().right > 721)"
    assert page.evaluate(f"{cut}.map((table) => table.tHead.textContent)") == []


def test_the_next_command_is_code_and_what_stands_behind_it_is_not(page: Any) -> None:
    first, *rest = page.locator(".next code").all_inner_texts()
    assert first.startswith("logitproof diagnose ") and "#" not in first and rest[0].startswith("logitproof localize ")
    assert "`" not in page.locator(".next").inner_text()


def test_a_page_is_printed_with_everything_unfolded(page: Any) -> None:
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf()[:5] == b"%PDF-"
    assert page.locator("details:not([open])").count() == 0


def test_twenty_thousand_positions_answer_at_once(started: Any, tmp_path: Path) -> None:
    page = chromium.opened(started, chromium.write(report(1, 100, 200), tmp_path))
    assert float(np.percentile(chromium.interactions(page), 95)) < 100
    page.close()


def test_the_result_says_what_it_must_show() -> None:
    found = json.loads((Path(__file__).parents[2] / "benchmarks/results/report.json").read_text("utf-8"))
    assert 0 < found["page_bytes"] <= 2_000_000 and 0 < found["interaction_ms_p95"] < 100
    assert found["axe_violations"] == found["xss_executed"] == 0 and found["clicks_to_cause"] <= 3
    assert (found["interaction_cells_prompts_tokens"], found["vocabulary"]) == ([1, 100, 200], 151_936)
