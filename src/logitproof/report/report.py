"""The report: a verdict with everything that it rests on, as plain data. Reporters only lay it out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from logitproof import catalog
from logitproof.comparison.compare import Comparison
from logitproof.contract.contract import EngineUse
from logitproof.contract.isa import BETWEEN, NATIVE
from logitproof.contract.opened import OpenContract
from logitproof.documents.answer import Answer
from logitproof.documents.frames import Frame, frame
from logitproof.documents.section import Page
from logitproof.documents.shown import Shown
from logitproof.jobs.cell import NOT_SELECTED, Cell, Unmeasured
from logitproof.jobs.plan import Plan
from logitproof.jobs.specs import reference_name
from logitproof.protocol.messages import HelloResult
from logitproof.report.record import (
    EngineRecord,
    Evidence,
    Judged,
    Machine,
    PinnedModel,
    Provenance,
    UnmeasuredRecord,
    as_plain,
    cell_record,
)
from logitproof.rows.distance import first_difference
from logitproof.rows.routing import routing_record
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.compared import Compared
from logitproof.verdict.failing import Break, breaks_of
from logitproof.verdict.judge import CellVerdict, PromptVerdict, Verdict
from logitproof.verdict.routed import routing_metrics
from logitproof.weights.hub import absolute, commit_of, find
from logitproof.weights.model import Model

Words = dict[str, dict[str, str]]
"""Text of tokens by model name, then by token ids joined with commas: single tokens and whole stretches."""


@dataclass(frozen=True)
class Report(Shown):
    """What reporters are given. `facts` are pins, versions, host, commands, preflight and the reference's own
    errors, ready for JSON; `yardsticks` are the cells that these were measured in.
    """

    opened: OpenContract
    verdict: Verdict
    compared: Mapping[Cell, Sequence[Compared]]
    results: Mapping[str, Trace | Failure]
    words: Words
    facts: Mapping[str, Any]
    yardsticks: tuple[Cell, ...] = ()
    looked: Mapping[Cell, Sequence[Compared]] = field(default_factory=dict, repr=False)
    """`compared` before any band was asked"""

    def piece(self, model: str, token_id: int) -> str:
        """Text of one token; its id in angle brackets where it is not known."""
        return self.text(model, [token_id])

    def text(self, model: str, token_ids: Sequence[int]) -> str:
        """Text of tokens; put together from single ones where the stretch is not known, ids where those are not."""
        known = self.words.get(model, {})
        whole = known.get(words_key(token_ids))
        return whole if whole is not None else "".join(known.get(str(token), f"<{token}>") for token in token_ids)

    def as_page(self) -> Page:
        """The report in a notebook, laid out by the reporter of its page."""
        page: Page = catalog.load("reporters", "html")().page(self)
        return page

    def positions(self, kind: Frame = "arrow") -> Any:
        """Every compared position, a row each: its cell, prompt, status, every metric and the best five of both sides.

        An Arrow table, or a DataFrame of pandas or polars, which must be installed then (`pip install 'logitproof[polars]'`).
        """
        return frame(catalog.load("reporters", "positions")().table(self), kind)

    def as_json(self) -> dict[str, Any]:
        """verdict.json, as `schemas/verdict.schema.json` describes it."""
        verdict = self.verdict
        judged: Judged = {
            "schema": 1,
            "contract": self.opened.contract.contract,
            "contract_version": self.opened.contract.version,
            "status": verdict.status,
            "exit_code": verdict.exit_code,
            "reason": verdict.reason,
            "cells": [cell_record(cell, self.evidence(cell)) for cell in verdict.cells],
            "gates": verdict.gates,
            "unmeasured": [self._unmeasured(cell) for cell in verdict.unmeasured],
            "waivers": verdict.waivers,
            "falsified": verdict.falsified,
        }
        about = f"{judged['contract']} {judged['contract_version']}"
        return Answer("verdict", about, verdict.exit_code, {**as_plain(judged), **self.facts}).as_json()

    def _unmeasured(self, cell: Unmeasured) -> UnmeasuredRecord:
        return {"cell": cell.cell, "reason": cell.reason, "allowed": self.is_allowed(cell)}

    def is_allowed(self, unmeasured: Unmeasured) -> bool:
        """Whether a cell may stay unmeasured: by the contract's leave, or because `--only` left it out."""
        return unmeasured.reason.startswith(NOT_SELECTED) or self.opened.contract.may_stay_unmeasured(unmeasured.cell)

    def evidence(self, verdict: CellVerdict) -> Evidence:
        """What engines said of their instructions, by instruction set and source; nothing where none was asked for."""
        evidence: Evidence = {}
        cell = verdict.cell
        names = [] if cell.isa == NATIVE else cell.isa.split(BETWEEN)
        for isa, pair in ((isa, pair) for isa in names for pair in cell.pairs):
            trace = self.results.get(pair.candidate if isa == names[-1] else pair.reference)
            for source, text in trace.isa.items() if isinstance(trace, Trace) else ():
                texts = evidence.setdefault(isa, {}).setdefault(source, [])
                if text not in texts:
                    texts.append(text)
        return evidence

    def failing_positions(self) -> Iterator[dict[str, Any]]:
        """A record for every failed prompt and every position that breaks a gate or its band, in the order of the matrix."""
        gates = self.opened.contract.gates
        for cell in self.verdict.cells:
            rows = self.compared[cell.cell]
            for prompt, row, broken in zip(cell.prompts, rows, breaks_of(cell, rows, gates, self.verdict.gates), strict=True):
                for record in _failing(cell, prompt, row, broken):
                    yield record | self._routing_of(record, row)

    def _routing_of(self, record: Mapping[str, Any], row: Compared) -> dict[str, Any]:
        """The layers whose routers chose otherwise, of a position that breaks a gate of what they choose."""
        sides = self.results.get(row.pair.reference), self.results.get(row.pair.candidate)
        metrics = {entry["metric"] for entry in record.get("breaks", ())}
        if not metrics & set(routing_metrics()) or not all(isinstance(trace, Trace) and trace.routing for trace in sides):
            return {}
        reference, candidate = (trace.routing for trace in sides)  # type: ignore[union-attr]
        return {"routing": routing_record(reference, candidate, record["token_idx"])}  # type: ignore[arg-type]


def words_key(token_ids: Sequence[int]) -> str:
    return ",".join(map(str, token_ids))


def provenance(
    opened: OpenContract, planned: Plan, results: Mapping[str, Trace | Failure], hellos: Mapping[str, HelloResult]
) -> Provenance:
    """Pins, versions, host and command of a run: what someone needs to run it again."""
    contract = opened.contract
    witness = {"witness": contract.witness} if contract.witness else {}
    builds = {f"reference/build {name}": use for name, use in contract.error_bar.builds.items()}
    others = {reference_name(name): use for name, use in contract.others.items()}
    uses: dict[str, EngineUse] = {"reference": contract.reference, **others, **contract.candidates, **witness, **builds}
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "pins": {
            "models": {
                name: {
                    quantization: _pinned(path, model)
                    for quantization, path in files.items()
                    if (model := planned.models.get(str(absolute(find(path, opened.folder)))))
                }
                for name, files in contract.models.items()
            },
            "suites": {suite.suite: suite.sha256 for suite in opened.suites},
        },
        "engines": {
            name: _engine_record(use, hellos.get(name), _details(planned, results, name)) for name, use in uses.items()
        },
        "versions": {"logitproof": _version(), "python": platform.python_version()},
        "host": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
        "commands": [" ".join(["logitproof", *sys.argv[1:]])],
        "jobs": len(planned.jobs),
        "seconds": round(sum(result.seconds for result in results.values() if isinstance(result, Trace)), 3),
    }


def _pinned(path: str, model: Model) -> PinnedModel:
    """What a verdict says of weights; of a hub id the commit that it was resolved to."""
    pinned = PinnedModel(path=path, files=model.files, sha256=model.sha256)
    if commit := commit_of(model.path):
        pinned["commit"] = commit
    return pinned


def position_record(comparison: Comparison, position: int) -> dict[str, Any]:
    """One position of a comparison as plain data: the label, every metric, the top five of both and delta.

    `delta` is the largest logit difference over the vocabulary after shift removal, in logits.
    """
    row = comparison.table.slice(position, 1).to_pylist()[0]
    top = {
        f"top5_{side}": [
            [token, logit] for token, logit in zip(row[f"top5_ids_{side}"], row[f"top5_logits_{side}"], strict=True)
        ]
        for side in ("reference", "candidate")
    }
    metrics = {name: row[name] for name in comparison.names}
    return {"label": row["label"], **top, "delta": row["max_delta_logit"], "metrics": metrics}


def parting(reference: Trace, candidate: Trace) -> tuple[list[int], list[int], list[int]]:
    """Two free-running continuations as what they share and how each goes on."""
    reference_tokens, candidate_tokens = reference.new_token_ids, candidate.new_token_ids
    shared = first_difference(reference_tokens, candidate_tokens)
    return reference_tokens[:shared], reference_tokens[shared:], candidate_tokens[shared:]


def shown_tokens(row: Compared, results: Mapping[str, Trace | Failure]) -> set[tuple[int, ...]]:
    """The tokens and stretches of tokens that a report of this prompt may show."""
    reference, candidate = results[row.pair.reference], results[row.pair.candidate]
    if row.comparison is None or not isinstance(reference, Trace) or not isinstance(candidate, Trace):
        return set()
    table = row.comparison.table
    columns = [table[f"top5_ids_{side}"].combine_chunks().flatten() for side in ("reference", "candidate")]
    singles = {token for column in [*columns, table["label"]] for token in column.to_pylist() if token >= 0}
    stretches = [reference.token_ids, reference.token_ids[:1], *(parting(reference, candidate) if row.whole else [])]
    return {(token,) for token in singles} | {tuple(stretch) for stretch in stretches if stretch}


def _engine_record(use: EngineUse, hello: HelloResult | None, details: dict[str, Any]) -> EngineRecord:
    environment = sorted(use.environment)
    if hello is None:
        return {"engine": use.engine, "options": use.options, "environment": environment, "details": details}
    return {
        "engine": use.engine,
        "options": use.options,
        "environment": environment,
        "versions": hello.versions,
        "isa": hello.isa,
        "machine": _machine(hello),
        "details": details,
    }


def _machine(hello: HelloResult) -> Machine | None:
    machine = hello.machine
    return {"architecture": machine.architecture, "processor": machine.processor, "flags": machine.flags} if machine else None


def _details(planned: Plan, results: Mapping[str, Trace | Failure], name: str) -> dict[str, Any]:
    """What each engine said when it loaded, by weights file: types, sizes and choices in effect."""
    details: dict[str, Any] = {}
    for job in planned.jobs:
        trace = results.get(job.key)
        if isinstance(trace, Trace) and trace.engine == name:
            details.setdefault(job.model.name, trace.details)
    return details


def _version() -> str:
    try:
        return importlib.metadata.version("logitproof")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _failing(
    cell: CellVerdict, prompt: PromptVerdict, row: Compared, broken: Mapping[int, Sequence[Break]]
) -> Iterator[dict[str, Any]]:
    place = {
        "model": cell.cell.model,
        "quantization": cell.cell.quantization,
        "candidate": cell.cell.candidate,
        "mode": cell.cell.mode,
        "isa": cell.cell.isa,
        "against": cell.cell.against,
        "control": cell.expected is not None,
        "suite": prompt.pair.suite,
        "prompt_idx": prompt.pair.prompt_idx,
        "prompt_id": prompt.pair.prompt.id,
    }
    if prompt.failure is not None:
        yield {**place, "token_idx": None, "status": prompt.status, "error": prompt.failure.text}
        return
    if row.comparison is None:
        return
    for position, entries in broken.items():
        gates = [entry.gate for entry in entries if entry.what == "gate"]
        breaks = {"gates": gates, "breaks": [asdict(entry) for entry in entries], "waiver": prompt.waiver}
        status = prompt.statuses[position]
        yield {**place, "token_idx": position, "status": status, **breaks, **position_record(row.comparison, position)}
