"""The console: a table that a person reads in five seconds, and where to look next."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from logitproof.documents.console import text
from logitproof.documents.wording import encodable, number_of, percent, visible
from logitproof.files.atomic import write_atomically
from logitproof.files.last_words import shortened
from logitproof.jobs.unread import defaults_in_words, unread_in_words
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter
from logitproof.reporters import _comparison_contract as contract
from logitproof.reporters._errors import distinct_failures
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import SEEN, CellVerdict

STYLES = {
    "PASS": ("✔", "bold green"),
    "MATCH": ("✔", "green"),
    "TIE-FLIP": ("≈", "green"),
    "DRIFT": ("~", "yellow"),
    "KNOWN-DIVERGENT": ("w", "yellow"),
    "FIXED": ("✘", "bold red"),
    "EXPIRED": ("w", "yellow"),
    "UNUSED": ("w", "yellow"),
    "WRONG": ("✘", "bold red"),
    "SUSPECT": ("✘", "bold red"),
    "FAIL": ("✘", "bold red"),
    "NOT-MEASURED": ("?", "magenta"),
    "SET-UP ERROR": ("!", "bold magenta"),
    "ENGINE ERROR": ("!", "bold magenta"),
    "ERROR": ("!", "bold magenta"),
}
SPACIOUS, COUNTS = 110, 26
"""Columns from which on weights may stand beside the name of a pair, and those that the counts between them take."""
WIDE = 96
"""Columns from which on the table shows everything."""
COLUMNS = {"positions": 60, "mean KL": 30, "p99 KL": WIDE, "top-1 %": 60, "match@10 %": 60}
"""Numbers of a cell, and from how wide a terminal on they are shown."""
SHORT = {"positions": "pos", "match@10 %": "@10 %"}
PAIRS = 12
"""Pairs of files up to which the comparison contract shows all; of more, those with findings."""
SHOWN = 6
"""Failing gates and errors that are shown; the rest is in report.md."""
LINES = 10
"""Lines of an engine's words that are shown."""


class Console(Reporter):
    """console.txt: what the command line prints, without colours."""

    def render(self, report: Report, folder: Path) -> Path:
        sheet = io.StringIO()
        Terminal(file=sheet, width=WIDE, color_system=None).print(renderable(report, folder / "report.md", "", width=WIDE))
        path = folder / "console.txt"
        write_atomically(path, "\n".join(line.rstrip() for line in sheet.getvalue().split("\n")))
        return path

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """Why there is no verdict."""
        write_atomically(folder / "console.txt", encodable(text(run.document())) + "\n")


def renderable(report: Report, page: Path, next_command: str, *, width: int) -> RenderableType:
    """The table of cells, the gates that fail, the errors, and one next step, for a terminal of `width`."""
    parts: list[RenderableType] = [*_comparison_contract(report, width), _cells(report, width)]
    parts += _controls(report)
    parts += _measured_again(report)
    parts += _ended_badly(report)
    parts += _failing_gates(report)
    parts += _wrong_cells(report)
    parts += _errors(report)
    parts += _witness(report)
    parts += _powers(report)
    parts += _not_measured(report)
    parts += _history(report)
    parts += _left_out(report)
    if missing := [cell for cell in report.verdict.unmeasured if not cell.reason.startswith("not selected")]:
        first = visible(f"{missing[0].cell}: {missing[0].reason}")
        parts.append(Text(f"not measured: {len(missing)}, first: {first}", "magenta"))
    if report.verdict.reason:
        parts.append(Text.assemble("why:    ", visible(report.verdict.reason.splitlines()[0])))
    parts.append(_last_line(report))
    parts.append(Text.assemble("report: ", (visible(str(page)), "bold")))
    if next_command:
        parts.append(Text.assemble("next:   ", (visible(next_command), "bold")))
    return Group(*parts)


def _comparison_contract(report: Report, width: int) -> list[RenderableType]:
    """One row a pair of files: how many settings are the same, and how the weights were compared."""
    rows = contract.pairs(report)
    if not rows:
        return []
    if len(rows) > PAIRS:
        rows = [pair for pair in rows if pair["findings"] or pair["skipped"]] or rows[:1]
    lines: list[RenderableType] = [_pairs(rows, width)]
    if hidden := len(contract.pairs(report)) - len(rows):
        lines.append(Text(f"… and {hidden} more pairs without a finding"))
    for pair in rows:
        if pair["skipped"]:
            codes = ", ".join(sorted({finding["code"] for finding in pair["skipped"]}))
            lines.append(Text(visible(f"by leave in {contract.name_of(pair)}: {codes}, since {pair['reason']}"), "yellow"))
    return [*lines, *_reference_errors(report), Text("")]


def _pairs(rows: Sequence[Mapping[str, Any]], width: int) -> Table:
    """A row a pair; how the weights were compared stands in a column where all fit, and below the name where they do not."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("comparison contract", overflow="fold")
    for name in ("same", "differ", "findings"):
        table.add_column(name, justify="right", no_wrap=True)
    names, weights = ([visible(name(pair)) for pair in rows] for name in (contract.name_of, contract.weights))
    left = [f" (+{len(pair['skipped'])} by leave)" if pair["skipped"] else "" for pair in rows]
    needed = max(map(cell_len, names)) + max(map(cell_len, weights)) + max(map(len, left)) + COUNTS
    if beside := width >= SPACIOUS and needed <= width:
        table.add_column("weights", no_wrap=True)
    for pair, name, compared, by_leave in zip(rows, names, weights, left, strict=True):
        counts, bad = contract.likeness(pair), len(pair["findings"])
        findings = Text(f"{bad}{by_leave}", STYLES["SET-UP ERROR"][1] if bad else "")
        first = Text(name) if beside else Text.assemble(name, (f"\n  weights: {compared}", "dim"))
        table.add_row(first, str(counts["same"]), str(counts["differs"]), findings, *([Text(compared)] if beside else []))
    return table


def _reference_errors(report: Report) -> list[RenderableType]:
    """How far the reference is from itself, in its worst run, in one line."""
    rows = [row for row in report.facts.get("reference_error", []) if row["run"] != "witness"]
    values = [(row["metrics"]["kl_divergence"]["max"], row) for row in rows if "kl_divergence" in row["metrics"]]
    lines: list[RenderableType] = []
    if values:
        worst, row = max(values, key=lambda pair: pair[0])
        runs = f"{len(values)} run{'s' * (len(values) != 1)}"
        text = f"the reference against itself: KL at most {worst:.1e} nats in {runs}, most under {row['run']}"
        lines.append(Text(visible(text)))
    for failed in (row for row in rows if row["failure"]):
        text = f"the reference could not be run under {failed['run']}: {failed['failure'].splitlines()[0]}"
        lines.append(Text(visible(text), "yellow"))
    return lines


def _cells(report: Report, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("status", no_wrap=True)
    table.add_column("cell", overflow="fold")
    shown = [name for name, least in COLUMNS.items() if width >= least]
    for name in shown:
        table.add_column(name if width >= WIDE else SHORT.get(name, name), justify="right", no_wrap=True)
    for cell in report.verdict.cells:
        figures = _figures(cell)
        table.add_row(_status(cell), Text(visible(cell.cell.id)), *(figures[name] for name in shown))
    return table


def _figures(cell: CellVerdict) -> dict[str, str]:
    """What stands in each of `COLUMNS`."""
    kl = cell.metrics.get("kl_divergence", {})
    top1, greedy = (cell.metrics.get(name, {}).get("mean") for name in ("top1", "greedy_match_10"))
    numbers = (str(cell.positions), _number(kl.get("mean")), _number(kl.get("p99")), percent(top1, 1), percent(greedy, 1))
    return dict(zip(COLUMNS, numbers, strict=True))


def _status(cell: CellVerdict) -> Text:
    symbol, style = STYLES[cell.status]
    if cell.expected:
        symbol, style = STYLES["PASS" if cell.as_expected else "FAIL"]
    return Text(f"{symbol} {cell.status}{' *' if cell.expected else ''}", style)


def _controls(report: Report) -> list[RenderableType]:
    controls = [cell for cell in report.verdict.cells if cell.expected]
    if not controls:
        return []
    missed = [cell for cell in controls if not cell.as_expected]
    if missed:
        text = (
            f"* {len(missed)} of {len(controls)} controls are not {missed[0].expected}: this harness would miss a planted bug"
        )
        return [Text(text, "bold red")]
    return [Text("* a control: an engine with a planted bug, and it was caught", "green")]


def _measured_again(report: Report) -> list[RenderableType]:
    """Which traces were there and not used, and why."""
    rows = report.facts.get("measured_again", [])
    stored, jobs = report.facts.get("from_store", 0), report.facts.get("jobs", 0)
    text = f"{stored} of {jobs} traces came from the store: an earlier run had measured them, --fresh measures all again"
    lines: list[RenderableType] = [Text(text, "cyan")] if stored else []
    texts = [f"{row['traces']} traces of {row['engine']} were measured again: {row['reason']}" for row in rows]
    return [*lines, *(Text(visible(text), "yellow") for text in texts[:SHOWN])]


def _ended_badly(report: Report) -> list[RenderableType]:
    """Engines that answered everything and failed when asked to end: their answers stand, and somebody should look."""
    rows = report.facts.get("ended_badly", [])
    texts = [f"{row['engine']} answered everything and then ended {row['how']}" for row in rows]
    return [Text(visible(text), "yellow") for text in texts[:SHOWN]]


def _failing_gates(report: Report) -> list[RenderableType]:
    bad = [gate for gate in report.verdict.gates if gate.status in ("FAIL", "ERROR") and not gate.control]
    lines: list[RenderableType] = [_gate_line(gate) for gate in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(Text(f"… and {len(bad) - SHOWN} more gates"))
    return lines


def _gate_line(gate: GateVerdict) -> Text:
    symbol, style = STYLES[gate.status]
    text = Text.assemble((f"{symbol} {visible(gate.id)} ", style), f"{visible(gate.cell) or '(no cell)'}: ")
    if gate.status == "ERROR":
        return text.append(visible(gate.reason))
    sign = "≤" if gate.operator == "at_most" else "≥"
    text.append(f"{gate.metric} {gate.statistic} over {gate.scope} is {gate.observed:.4g}, ")
    text.append(f"must be {sign} {gate.bound:.4g}; {visible(gate.where)}")
    if gate.reference_error is not None:
        text.append(f"; the reference's own: {gate.reference_error:.2g}")
    for step in gate.if_fails:
        text.append(f"\n    → {visible(step)}")
    return text


def _wrong_cells(report: Report) -> list[RenderableType]:
    """Cells that are WRONG by their band, suspect or measured in part; those that a gate explains have their line already."""
    explained = {gate.cell for gate in report.verdict.gates if gate.status == "FAIL"}
    kinds = ("WRONG", "SUSPECT", "NOT-MEASURED")
    wrong = [cell for cell in report.verdict.cells if cell.status in kinds and not cell.as_expected and not cell.failures]
    lines: list[RenderableType] = []
    for cell in wrong:
        # of a cell that a gate explains only what its rows show is left to say
        by_gate = cell.cell.id in explained
        reason = cell.reason.partition(SEEN)[2] if by_gate else cell.reason
        if reason:
            status = (f"✘ {cell.status} ", STYLES[cell.status][1])
            lines.append(Text.assemble(status, visible(f"{cell.cell.id}: {'seen: ' * by_gate}{reason}")))
    return lines[:SHOWN]


def _errors(report: Report) -> list[RenderableType]:
    seen = distinct_failures(report)
    # What only follows from another error is not the one to look at.
    causes = {key: value for key, value in seen.items() if not value[1].text.startswith("not tried")}
    seen = causes or seen
    lines: list[RenderableType] = []
    for cell, failure in list(seen.values())[:SHOWN]:
        symbol, style = STYLES[cell.status]
        line = Text.assemble(
            (f"{symbol} {cell.status} ", style),
            visible(f"{cell.cell.id}: {failure.where + ': ' if failure.where else ''}"),
            _words(failure.text),
        )
        if failure.remedy:
            line.append(f"\n    remedy: {visible(failure.remedy)}")
        lines.append(line)
    if len(seen) > SHOWN:
        lines.append(Text(f"… and {len(seen) - SHOWN} more errors"))
    return lines


def _not_measured(report: Report) -> list[RenderableType]:
    """Cells that the plan left out without leave: each keeps the verdict from PASS."""
    lines: list[RenderableType] = [
        Text.assemble(("? NOT-MEASURED ", STYLES["NOT-MEASURED"][1]), visible(f"{cell.cell}: {cell.reason}"))
        for cell in report.verdict.unmeasured
        if not report.is_allowed(cell)
    ]
    return lines[:SHOWN]


def _left_out(report: Report) -> list[RenderableType]:
    """Weights that are listed and were not compared, and the axes of the matrix that nobody named."""
    opened = report.opened
    lines: list[RenderableType] = [Text(visible(text), "bold magenta") for text in unread_in_words(opened)[:SHOWN]]
    if defaults := defaults_in_words(opened.contract.matrix):
        lines.append(Text(visible(f"matrix by default: {defaults}"), "dim"))
    return lines


def _history(report: Report) -> list[RenderableType]:
    """Waivers that a person must act on, and what the contract says of predictions that fell."""
    lines: list[RenderableType] = []
    for waiver in report.verdict.waivers:
        if waiver.status != "KNOWN-DIVERGENT":
            symbol, style = STYLES[waiver.status]
            lines.append(
                Text.assemble(
                    (f"{symbol} waiver {visible(waiver.id)} {waiver.status} ", style),
                    visible(f"{waiver.text} ({waiver.issue})"),
                )
            )
    for entry in report.verdict.falsified:
        line = Text.assemble((f"✘ {visible(entry.id)} ", STYLES["FAIL"][1]), visible(f"is refuted: {entry.prediction}"))
        for step in entry.steps:
            line.append(f"\n    → {visible(step)}")
        lines.append(line)
    return lines


def _powers(report: Report) -> list[RenderableType]:
    """What each gate would catch of the known bugs, where it would catch least."""
    least: dict[str, GateVerdict] = {}
    for gate in report.verdict.gates:
        if gate.power is not None and not gate.control:
            lowest = least.get(gate.id)
            if lowest is None or lowest.power is None or gate.power.caught < lowest.power.caught:
                least[gate.id] = gate
    lines = [f"{gate.id} on {gate.cell} would catch {gate.power}" for gate in least.values()]
    return [Text.assemble(("power ", "cyan"), visible(line)) for line in lines[:SHOWN]]


def _witness(report: Report) -> list[RenderableType]:
    """What a second engine says of cells that are not as expected, or of any where it agrees with nobody."""
    lines: list[RenderableType] = [
        Text.assemble(("witness ", "cyan"), visible(f"{cell.cell.id}: {cell.witness}"))
        for cell in report.verdict.cells
        if cell.witness and (not cell.as_expected or "disagree" in cell.witness or "suspect" in cell.witness)
    ]
    return lines[:SHOWN]


def _last_line(report: Report) -> Text:
    verdict = report.verdict
    symbol, style = STYLES[verdict.status]
    counted = [gate for gate in verdict.gates if not gate.control]
    held = sum(gate.status == "PASS" for gate in counted)
    positions = sum(cell.positions for cell in verdict.cells)
    return Text.assemble(
        (f"{symbol} {verdict.status}", style),
        f"  {held} of {len(counted)} gates hold, {number_of(positions, 'position')} in {number_of(len(verdict.cells), 'cell')}",
    )


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.2e}" if abs(value) < 1e-2 and value else f"{value:.3f}"


def _words(text: str) -> str:
    """What an engine said: the beginning, with what it gave up and its last words; nothing in it can steer a terminal."""
    lines = [visible(line.strip()) for line in text.splitlines() if line.strip()]
    return "\n    ".join(shortened(lines, LINES))
