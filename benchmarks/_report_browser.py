"""A report's page in real Chromium: what it weighs, how fast it answers, and whether everyone can use it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitproof.documents.document import Document
from logitproof.documents.section import Field, Grid, GridLine, Verdict
from logitproof.documents.stored import Kept, keep
from logitproof.report.report import Report
from logitproof.reporters.html import Html

AXE = Path(__file__).parents[1] / "tests" / "assets" / "axe-core-4.14.1.min.js"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FETCHED = Path(__file__).parents[1] / ".cache" / "chromium" / "chromium"
PROGRAM = next((path for name in (*CHROMIUM, str(FETCHED)) if (path := shutil.which(name))), None)
MISSING = "no Chromium: `make browser` fetches one from npm without root, or apt-get install chromium"
"""Why a test of a page is skipped, and the remedy."""
FIRST, CAUSE = "first wrong at layers.0.attn.q_rope", "rope.base (base = 10000)"
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
TIMED = """async (click) => {
  const start = performance.now();
  (new Function(click))();
  document.body.offsetHeight;
  const script = performance.now() - start;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return script;
}"""
"""Milliseconds that the page is busy with one interaction, its layout included; waiting for the screen is no work."""


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window; it can reach nothing but files."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # a browser of ours brings the libraries that a bare machine lacks
        lacking = {"LD_LIBRARY_PATH": str(FETCHED.with_name("lib"))} if str(FETCHED) == PROGRAM else {}
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"], env={**os.environ, **lacking})
        try:
            yield started
        finally:
            started.close()


def write(report: Report, folder: Path) -> Path:
    """report.html of a failing run about which localize and diagnose were asked."""
    squares = (Field("-7", "right", "right"), Field("-1", "wrong", "wrong"))
    line = GridLine("layer 0", squares)
    grid = Grid(("attn_norm", "q_rope"), (line,), (("wrong", "wrong"),), "Of 2 operations 1 is wrong.", "squares")
    answers = {"localize": ("WRONG", f"mine: {FIRST}", (grid,)), "diagnose": ("EXPLAINED", f"mine: {CAUSE}", ())}
    for kind, (status, reason, sections) in answers.items():
        keep(Kept(kind, report.facts["run_id"], Document(kind, Verdict(status, reason, "bad"), sections)), folder)
    return Html().render(report, folder)


def opened(started: Any, path: Path, **options: Any) -> Any:
    """The page, loaded."""
    page = started.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
    page.goto(path.as_uri())
    page.wait_for_selector(".token, .verdict")
    return page


def axe_violations(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA: the rule and where; everything is unfolded before."""
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("(rules) => axe.run(document, rules)", RULES)
    nodes = [(each["id"], node) for each in found["violations"] for node in each["nodes"]]
    return [f"{rule}: {node['target']} {node['failureSummary']}" for rule, node in nodes]


def xss_executed(page: Any) -> bool:
    """Whether anything that a model said has run."""
    return bool(page.evaluate("'__owned' in window"))


def interactions(page: Any) -> list[float]:
    """Milliseconds of each interaction: hover, keys, zoom, metric, prompt, cell and filter."""
    times = []
    for number in range(12):
        key = ("ArrowRight", "ArrowDown")[number % 2]
        clicks = [
            f"document.querySelectorAll('.names button')[{number}].click()",
            f"document.querySelectorAll('.explorer input[type=radio]')[{number % 3}].click()",
            f"document.querySelector('[aria-label=\"zoom {('in', 'out')[number % 2]}\"]').click()",
            f"document.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}}))",
            f"document.querySelectorAll('.token')[{number}].dispatchEvent(new MouseEvent('mouseover', {{bubbles: true}}))",
            "const box = document.querySelector('input[type=search]'); box.value = 'q'; box.dispatchEvent(new Event('input'))",
        ]
        times += [float(page.evaluate(TIMED, click)) for click in clicks]
    return times


def clicks_to_cause(page: Any) -> int:
    """Clicks from opening a failing report until what failed, where it starts, why and the tokens there are seen."""
    wanted, clicks = {"fails in", FIRST, CAUSE, "position "}, 0
    wanted -= {text for text in wanted - {"position "} if in_view(page, text)}
    while wanted and clicks < 10:
        page.locator("a[href^='#at-']").first.click()
        clicks += 1
        wanted -= {text for text in wanted if in_view(page, text)}
    return clicks


def in_view(page: Any, text: str) -> bool:
    """Whether a text stands in the part of the page that is seen."""
    matches = page.get_by_text(text).all()
    height = page.viewport_size["height"]
    boxes = [match.bounding_box() for match in matches]
    return any(box and 0 <= box["y"] < height for box in boxes)
