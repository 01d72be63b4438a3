"""Takes the pictures of a report's page: `python docs/screenshots.py runs/demo`, after `make demo` and `make browser`."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 1180, 8000
SCHEMES = ("light", "dark")
WRONG = re.compile(r"WRONG\s+\S+/\S+")
TITLE = "Prompts, positions and tokens"


def main(run: Path) -> int:
    """Write docs/report-SCHEME.png; 1 where there is no browser."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    chromium = importlib.import_module("_report_browser")
    if chromium.PROGRAM is None:
        print(chromium.MISSING)
        return 1
    page_of_run = (run / "report.html").resolve().as_uri()
    with chromium.browser() as browser:
        for scheme in SCHEMES:
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.goto(page_of_run)
            page.wait_for_load_state("load")
            select_wrong(page)
            page.screenshot(path=str(Path(__file__).with_name(f"report-{scheme}.png")), clip=section(page))
    return 0


def select_wrong(page: Any) -> None:
    """Show the tokens of the last cell that is WRONG, which is the planted bug."""
    cells = page.locator("select", has=page.locator("option", has_text=WRONG)).first
    cells.select_option(label=[text for text in cells.locator("option").all_text_contents() if WRONG.match(text)][-1])


def section(page: Any) -> dict[str, float]:
    """The rectangle of prompts, positions and tokens."""
    box = page.locator("details", has=page.get_by_text(TITLE, exact=True)).first.bounding_box()
    return {"x": 0, "y": box["y"], "width": WIDTH, "height": box["height"]}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
