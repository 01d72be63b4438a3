"""report.md: summary first, then what to look at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from logitproof.judge import CellVerdict, Compared, GateVerdict
from logitproof.report import Report, parting, position_record
from logitproof.reporters import Reporter
from logitproof.store import write_atomically
from logitproof.trace import Trace

WORST = 8
"""Prompts that are shown with their texts."""
BARE_BAR = re.compile(r"(?<!\\)\|")
"""A bar ends a table's cell, even inside code."""
COMMON = 160
"""Characters of the text before the token where two continuations part."""


class Markdown(Reporter):
    """report.md: the summary, the gates, what was not measured, the worst prompts, pins and versions."""

    def render(self, report: Report, folder: Path) -> Path:
        path = folder / "report.md"
        sections = [_head, _cells, _gates, _unmeasured, _errors, _worst_prompts, _provenance]
        write_atomically(path, "\n".join(line for section in sections for line in section(report)) + "\n")
        return path


def code(text: str) -> str:
    """Text that an engine or a prompt chose, as one line of code that cannot end the table or the code."""
    visible = "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    longest = max((len(run) for run in re.findall("`+", visible)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if visible.startswith("`") or visible.endswith("`") or not visible.strip() else ""
    return f"{fence}{pad}{visible}{pad}{fence}"


def plain(text: str) -> str:
    """Text of a contract or an error, escaped for a table or a paragraph."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", "".join(char for char in flat if char.isprintable()))


def _table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(BARE_BAR.sub(r"\|", text) for text in row) + " |"
    yield ""


def _head(report: Report) -> Iterator[str]:
    verdict, contract = report.verdict, report.opened.contract
    measured = sum(cell.positions for cell in verdict.cells)
    held = sum(gate.status == "PASS" for gate in verdict.gates if not gate.control)
    counted = sum(not gate.control for gate in verdict.gates)
    yield f"# {verdict.status}: {plain(contract.contract)} {contract.version}"
    yield ""
    if contract.about:
        yield plain(contract.about)
        yield ""
    yield f"{held} of {counted} gates hold; {measured} positions in {len(verdict.cells)} cells. Exit code {verdict.exit_code}."
    yield ""


def _cells(report: Report) -> Iterator[str]:
    yield "## Cells"
    yield ""
    head = ["status", "cell", "positions", "mean KL (nats)", "95 % interval", "p99 KL", "same top-1", "greedy match@10"]
    yield from _table(head, (_cell_row(cell) for cell in report.verdict.cells))
    yield "KL is KL(reference‖candidate). A control is an engine with a planted bug: it must be WRONG."
    yield ""


def _cell_row(cell: CellVerdict) -> list[str]:
    kl = cell.metrics.get("kl_divergence", {})
    interval = kl.get("interval")
    control = (
        " (control: as planted)"
        if cell.expected and cell.as_expected
        else " (control: **not caught**)"
        if cell.expected
        else ""
    )
    return [
        f"**{cell.status}**{control}",
        code(cell.cell.id),
        str(cell.positions),
        _number(kl.get("mean")),
        f"{_number(interval[0])} – {_number(interval[1])}" if interval else "–",
        _number(kl.get("p99")),
        _percent(cell.metrics.get("top1", {}).get("mean")),
        _percent(cell.metrics.get("greedy_match_10", {}).get("mean")),
    ]


def _gates(report: Report) -> Iterator[str]:
    yield "## Gates"
    yield ""
    order = {"FAIL": 0, "ERROR": 1, "NOT-MEASURED": 2, "PASS": 3}
    gates = sorted((gate for gate in report.verdict.gates if not gate.control), key=lambda gate: order[gate.status])
    head = ["status", "gate", "cell", "what", "observed", "bound", "basis"]
    yield from _table(head, (_gate_row(gate) for gate in gates))
    for gate in gates:
        if gate.status == "FAIL":
            yield f"**{plain(gate.id)}** fails on {code(gate.cell)}: {plain(gate.where)}"
            yield ""
            yield from (f"- {plain(step)}" for step in gate.if_fails)
            yield ""


def _gate_row(gate: GateVerdict) -> list[str]:
    sign = "≤" if gate.operator == "at_most" else "≥"
    return [
        f"**{gate.status}**",
        plain(gate.id),
        code(gate.cell) if gate.cell else plain(gate.reason),
        f"{plain(gate.metric)}, {gate.statistic}, {plain(gate.scope)}",
        _number(gate.observed),
        f"{sign} {_number(gate.bound)}",
        plain(gate.basis),
    ]


def _unmeasured(report: Report) -> Iterator[str]:
    if report.verdict.unmeasured:
        yield "## Not measured"
        yield ""
        yield from _table(["cell", "why"], ([code(one.cell), plain(one.reason)] for one in report.verdict.unmeasured))


def _errors(report: Report) -> Iterator[str]:
    failures = {(one.text, one.where): (cell, one) for cell in report.verdict.cells for one in cell.failures}
    if not failures:
        return
    yield "## Errors"
    yield ""
    for cell, one in failures.values():
        yield f"**{cell.status}** in {code(cell.cell.id)}, {plain(one.where or one.engine)}"
        yield ""
        yield from (f"    {line}" for line in _printable(one.text).splitlines())
        yield ""
        if one.remedy:
            yield f"Remedy: {plain(one.remedy)}"
            yield ""


def _worst_prompts(report: Report) -> Iterator[str]:
    """Prompts by their worst position, worst first; controls are left out unless there is nothing else."""
    ranked = []
    for cell in report.verdict.cells:
        for row in report.compared[cell.cell]:
            if row.comparison is not None and not cell.expected:
                ranked.append((float(row.comparison.metrics["kl_divergence"].max()), cell, row))
    ranked.sort(key=lambda entry: -entry[0])
    greedy = [entry for entry in ranked if entry[1].cell.mode == "greedy"]
    yield "## Worst prompts"
    yield ""
    for _, cell, row in greedy[:WORST]:
        yield from _parting(report, cell, row)
    head = ["cell", "prompt", "position", "KL (nats)", "token that follows", "reference's top 5", "candidate's top 5"]
    teacher = [entry for entry in ranked if entry[1].cell.mode != "greedy"][:WORST]
    yield from _table(head, (_worst_row(report, cell, row) for _, cell, row in teacher))


def _worst_row(report: Report, cell: CellVerdict, row: Compared) -> list[str]:
    assert row.comparison is not None
    at = int(row.comparison.metrics["kl_divergence"].argmax())
    record = position_record(row.comparison, at)
    label = code(report.text(cell.cell.model, [record["label"]])) if record["label"] >= 0 else "–"
    return [
        code(cell.cell.id),
        plain(row.pair.prompt.id),
        str(at),
        _number(record["metrics"]["kl_divergence"]),
        label,
        _top5(report, cell, record["top5_reference"]),
        _top5(report, cell, record["top5_candidate"]),
    ]


def _parting(report: Report, cell: CellVerdict, row: Compared) -> Iterator[str]:
    """Both texts of a free-running prompt and the token where they part."""
    reference, candidate = report.results[row.pair.reference], report.results[row.pair.candidate]
    if not isinstance(reference, Trace) or not isinstance(candidate, Trace) or row.comparison is None:
        return
    model, (shared, ours, theirs) = cell.cell.model, parting(reference, candidate)
    yield f"### {plain(row.pair.prompt.id)} in {code(cell.cell.id)}"
    yield ""
    yield f"Prompt: {code(report.text(model, reference.token_ids)[-COMMON:])}"
    yield ""
    if not ours and not theirs:
        yield f"Both continue with the same {len(shared)} tokens: {code(report.text(model, shared)[:COMMON])}"
        yield ""
        return
    yield f"{len(shared)} tokens in common: {code(report.text(model, shared)[-COMMON:])}" if shared else "They part at once."
    yield ""
    yield f"- reference goes on: {code(report.text(model, ours)[:COMMON]) if ours else 'it ends here'}"
    yield f"- candidate goes on: {code(report.text(model, theirs)[:COMMON]) if theirs else 'it ends here'}"
    parted = len(shared)
    if parted < row.comparison.positions:
        record = position_record(row.comparison, parted)
        yield f"- regret {_number(record['metrics']['regret'])} nats, KL {_number(record['metrics']['kl_divergence'])} nats"
        yield f"- reference's top 5: {_top5(report, cell, record['top5_reference'])}"
        yield f"- candidate's top 5: {_top5(report, cell, record['top5_candidate'])}"
    yield ""


def _top5(report: Report, cell: CellVerdict, top: list[list[Any]]) -> str:
    return ", ".join(f"{code(report.text(cell.cell.model, [token]))} {logit:.3f}" for token, logit in top if token >= 0)


def _provenance(report: Report) -> Iterator[str]:
    facts = report.facts
    yield "## Pins, versions, host"
    yield ""
    for name, files in facts["pins"]["models"].items():
        for quantization, pin in files.items():
            yield f"- {plain(name)} {plain(quantization)}: {code(pin['path'])}, sha256 {code(pin['sha256'])}"
    for name, sha256 in facts["pins"]["suites"].items():
        yield f"- suite {plain(name)}: sha256 {code(sha256)}"
    for name, engine in facts["engines"].items():
        versions = ", ".join(f"{key} {value}" for key, value in engine.get("versions", {}).items() if "sha256" not in key)
        yield f"- {plain(name)} ({plain(engine['engine'])}): {plain(json.dumps(engine['options']))}; {plain(versions)}"
    yield f"- host: {plain(json.dumps(facts['host']))}; logitproof {facts['versions']['logitproof']}; {facts['made_at']}"
    yield from (f"- command: {code(command)}" for command in facts["commands"])


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable() or char == "\n")


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "–" if value is None or value != value else f"{100 * value:.2f} %"
