"""step_summary.md: the page of a GitHub Actions step, or of any CI that shows Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from logitproof.documents import markdown
from logitproof.documents.stored import kept_answers
from logitproof.documents.wording import code, encodable, next_line, number, number_of, words
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.reporters._decisive import decisive, following
from logitproof.reporters._findings import Finding, findings
from logitproof.verdict.judge import CellVerdict

ROWS = 100
"""Rows of a table and findings that are shown; GitHub takes no page above a megabyte."""
TEXT = 2000
"""Characters of one finding."""


class StepSummary(Reporter):
    """step_summary.md: the verdict, every finding with observed, allowed and where, and a row a cell."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "step_summary.md"
        answers = kept_answers(folder, report.facts.get("run_id", ""))
        head = _head(report, decisive(report, answers), following(report, folder, answers))
        lines = [*head, *_findings(report), *_cells(report)]
        write_atomically(path, encodable("\n".join(lines)) + "\n")
        return path

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """Why there is no verdict."""
        write_atomically(folder / "step_summary.md", encodable(markdown.text(run.document(), level=2)) + "\n")


def _head(report: Report, reason: str, command: str) -> Iterator[str]:
    verdict, contract = report.verdict, report.opened.contract
    counted = [gate for gate in verdict.gates if not gate.control]
    held = sum(gate.status == "PASS" for gate in counted)
    positions = sum(cell.positions for cell in verdict.cells)
    yield f"## {verdict.status}: {words(contract.contract)} {words(contract.version)}: {words(reason)}"
    yield ""
    yield next_line(command)
    yield ""
    measured = f"{number_of(positions, 'position')} in {number_of(len(verdict.cells), 'cell')}"
    yield f"{held} of {len(counted)} gates hold; {measured}. Exit code {verdict.exit_code}."
    yield ""


def _findings(report: Report) -> Iterator[str]:
    listed = findings(report)
    for finding in listed[:ROWS]:
        yield from _finding(finding)
    if len(listed) > ROWS:
        yield f"… and {len(listed) - ROWS} more: see `report.md`."
    if listed:
        yield ""


def _finding(finding: Finding) -> Iterator[str]:
    first, *rest = [line for line in finding.text[:TEXT].splitlines() if line.strip()] or [""]
    yield f"- **{words(finding.title)}** (line {finding.line}): {words(first)}"
    for line in rest:
        yield f"  <br>{words(line)}"


def _cells(report: Report) -> Iterator[str]:
    yield "| status | cell | positions | mean KL (nats) | largest KL |"
    yield "|---|---|---|---|---|"
    cells = sorted(report.verdict.cells, key=lambda cell: cell.as_expected)
    for cell in cells[:ROWS]:
        yield _row(cell)
    if len(cells) > ROWS:
        yield f"| | … and {len(cells) - ROWS} more | | | |"


def _row(cell: CellVerdict) -> str:
    kl = cell.metrics.get("kl_divergence", {})
    status = cell.status + (f" (expected {cell.expected})" if cell.expected else "")
    name = code(cell.cell.id).replace("|", r"\|")
    return f"| {status} | {name} | {cell.positions} | {number(kl.get('mean'))} | {number(kl.get('max'))} |"
