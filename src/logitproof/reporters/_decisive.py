"""What decided a verdict, in one line: where it is wrong and from where on, and what was found out about the cause."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from logitproof.documents.stored import Kept
from logitproof.documents.wording import number_of
from logitproof.report.next_step import next_command
from logitproof.report.report import Report
from logitproof.reporters._findings import findings
from logitproof.verdict.judge import CellVerdict

LONGEST = 240
"""Characters of one reason."""


def decisive(report: Report, answers: Sequence[Kept] = ()) -> str:
    """The reason of the verdict; of a PASS what was measured and held."""
    verdict = report.verdict
    if verdict.status == "PASS":
        counted = [gate for gate in verdict.gates if not gate.control]
        held = sum(gate.status == "PASS" for gate in counted)
        positions = sum(cell.positions for cell in verdict.cells)
        measured = f"{number_of(positions, 'position')} in {number_of(len(verdict.cells), 'cell')}"
        return f"{held} of {len(counted)} gates hold; {measured}"
    asked = sorted(answers, key=lambda kept: kept.kind, reverse=True)  # where it starts, then why
    causes = [f"{kept.kind}: {_short(kept.document.verdict.reason.partition('; ')[0])}" for kept in asked]
    return "; ".join([_first(report), *causes])


def following(report: Report, folder: Path, answers: Sequence[Kept] = ()) -> str:
    """The next command; where the cause is known already, the one that shows it."""
    known = [kept.document.next_command for kept in answers if kept.document.next_command]
    return known[0] if known else next_command(report, folder)


def _first(report: Report) -> str:
    """The worst finding; of a cell with WRONG positions how many and from where on."""
    worst = findings(report)[0]
    cell = next((cell for cell in report.verdict.cells if cell.cell.id == worst.cell), None)
    text = _short(next((line for line in worst.text.splitlines() if line.strip()), ""))
    if cell is None or not cell.counts.get("WRONG") or cell.expected:
        if report.verdict.reason:
            return _short(report.verdict.reason.splitlines()[0])
        return f"{worst.title}: {text}" if text else worst.title
    gate = f"; {worst.title}: {text}" if worst.rule.startswith("gate/") else ""
    return f"{wrong_positions(cell)}{gate}"


def wrong_positions(cell: CellVerdict) -> str:
    """How many positions of a cell are WRONG, and from where on."""
    firsts = {prompt.pair.prompt.id: prompt.statuses.index("WRONG") for prompt in cell.prompts if "WRONG" in prompt.statuses}
    prompt, at = min(firsts.items(), key=lambda pair: pair[1])
    where = f"from position {at} on" if len(set(firsts.values())) == 1 else f"the first at position {at} of prompt {prompt}"
    counted = sum(cell.counts.values())
    return f"{cell.counts['WRONG']} of {counted} positions are WRONG in {cell.cell.id}, {where}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
