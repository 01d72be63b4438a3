"""The documentation builds into a site without a warning, and fetches nothing when it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from logitproof import catalog

ROOT = Path(__file__).parents[2]


def test_the_site_builds_strictly_and_has_what_is_made_for_it(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.name: path.read_text("utf-8") for path in (tmp_path / "site").glob("*.html")}
    assert not [name for name in catalog.entries("metrics") if f">{name}<" not in pages["metrics.html"]]
    assert "max_new_tokens" in pages["suites.html"] and "verdict.schema.json" in pages["schemas.html"]
    assert not [page for page in (ROOT / "docs").glob("*.md") if f"{page.stem}.html" not in pages]
    for name, page in pages.items():
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://(?!localhost)', page), name
