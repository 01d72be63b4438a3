"""An engine that answers everything and fails when it is asked to end: its answers stand, and nobody overlooks how it ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from logitproof.reporters.console import Console
from logitproof.reporters.markdown import Markdown


@pytest.mark.parametrize(
    ("close", "how"),
    [
        ("os._exit(3)", "with exit code 3"),
        ("raise RuntimeError('no lock')", "with exit code 1"),
        ("os.abort()", "by SIGABRT"),
        ("os.kill(os.getpid(), 9)", "by SIGKILL"),
        ("send({'id': number, 'result': {}}); os._exit(4)", "with exit code 4"),
    ],
)
def test_how_an_engine_ended_is_told(project: Any, tmp_path: Path, close: str, how: str) -> None:
    reference = project.engine("#", "reference.py")
    mine = {**project.engine(f"def close(p):\n    {close}\n"), "may_be_exact": "the very same program, to look at its end"}
    report = project.check(reference=reference, candidates={"mine": mine})
    assert report.verdict.status == "PASS" and report.verdict.cells[0].positions > 0
    (row,) = report.facts["ended_badly"]
    assert row["engine"] == "mine" and row["how"].startswith(how)
    for reporter in (Console(), Markdown()):
        written = reporter.render(report, tmp_path).read_text("utf-8")
        assert f"mine answered everything and then ended {how}" in " ".join(written.split())


def test_an_engine_that_ends_well_or_is_ended_is_not_told(project: Any) -> None:
    reference = project.engine("#", "reference.py")
    slow = {
        **project.engine("def close(p):\n    time.sleep(60)\n", "slow.py"),
        "may_be_exact": "the very same program, slow to end",
    }
    report = project.check(reference=reference, candidates={"mine": slow, "good": project.toy()})
    assert report.facts["ended_badly"] == []
