"""The report: a verdict with everything that it rests on, as plain data. Reporters only lay it out."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from logitproof.bands.power import Power
from logitproof.comparison.compare import Comparison
from logitproof.contract.contract import EngineUse, OpenContract
from logitproof.contract.isa import BETWEEN, NATIVE
from logitproof.jobs.cell import NOT_SELECTED, Cell, Unmeasured
from logitproof.jobs.plan import Plan
from logitproof.protocol.messages import HelloResult
from logitproof.rows.distance import first_difference
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.compared import Compared
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict, PromptVerdict, Verdict

SCHEMA_VERSION = 1
Words = dict[str, dict[str, str]]
"""Text of tokens by model name, then by token ids joined with commas: single tokens and whole stretches."""


@dataclass(frozen=True)
class Report:
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

    def piece(self, model: str, token_id: int) -> str:
        """Text of one token; its id in angle brackets where it is not known."""
        return self.text(model, [token_id])

    def text(self, model: str, token_ids: Sequence[int]) -> str:
        """Text of tokens; put together from single ones where the stretch is not known, ids where those are not."""
        known = self.words.get(model, {})
        whole = known.get(words_key(token_ids))
        return whole if whole is not None else "".join(known.get(str(token), f"<{token}>") for token in token_ids)

    def as_json(self) -> dict[str, Any]:
        """verdict.json, as `schemas/verdict.schema.json` describes it."""
        verdict = self.verdict
        return {
            "schema": SCHEMA_VERSION,
            "contract": self.opened.contract.contract,
            "contract_version": self.opened.contract.version,
            "status": verdict.status,
            "exit_code": verdict.exit_code,
            "cells": [{**_cell_json(cell), "evidence": self.evidence(cell)} for cell in verdict.cells],
            "gates": [_gate_json(gate) for gate in verdict.gates],
            "unmeasured": [{**asdict(one), "allowed": self.is_allowed(one)} for one in verdict.unmeasured],
            "waivers": [asdict(one) for one in verdict.waivers],
            "falsified": [{**asdict(one), "gates": [*one.gates], "steps": [*one.steps]} for one in verdict.falsified],
            **self.facts,
        }

    def is_allowed(self, one: Unmeasured) -> bool:
        """Whether a cell may stay unmeasured: by the contract's leave, or because `--only` left it out."""
        leave = self.opened.contract.may_be_unmeasured
        return one.reason.startswith(NOT_SELECTED) or any(fnmatch.fnmatchcase(one.cell, glob) for glob in leave)

    def evidence(self, verdict: CellVerdict) -> dict[str, dict[str, list[str]]]:
        """What engines said of their instructions, by instruction set and source; nothing where none was asked for."""
        found: dict[str, dict[str, list[str]]] = {}
        cell = verdict.cell
        names = [] if cell.isa == NATIVE else cell.isa.split(BETWEEN)
        for isa, pair in ((isa, pair) for isa in names for pair in cell.pairs):
            trace = self.results.get(pair.candidate if isa == names[-1] else pair.reference)
            for source, text in trace.isa.items() if isinstance(trace, Trace) else ():
                texts = found.setdefault(isa, {}).setdefault(source, [])
                if text not in texts:
                    texts.append(text)
        return found

    def failing_positions(self) -> Iterator[dict[str, Any]]:
        """A record for every WRONG position and every failed prompt, in the order of the matrix."""
        for cell in self.verdict.cells:
            for prompt, row in zip(cell.prompts, self.compared[cell.cell], strict=True):
                yield from _failing(cell, prompt, row)


def words_key(token_ids: Sequence[int]) -> str:
    return ",".join(map(str, token_ids))


def provenance(
    opened: OpenContract, planned: Plan, results: Mapping[str, Trace | Failure], hellos: Mapping[str, HelloResult]
) -> dict[str, Any]:
    """Pins, versions, host and command of a run: what someone needs to run it again."""
    contract = opened.contract
    witness = {"witness": contract.witness} if contract.witness else {}
    builds = {f"reference/build {name}": use for name, use in contract.error_bar.builds.items()}
    uses: dict[str, EngineUse] = {"reference": contract.reference, **contract.candidates, **witness, **builds}
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "pins": {
            "models": {
                name: {
                    quantization: {"path": path, "files": model.files, "sha256": model.sha256}
                    for quantization, path in files.items()
                    if (model := planned.models.get(str((opened.folder / path).resolve())))
                }
                for name, files in contract.models.items()
            },
            "suites": {suite.suite: suite.sha256 for suite in opened.suites},
        },
        "engines": {
            name: {
                "engine": use.engine,
                "options": use.options,
                "environment": sorted(use.environment),
                **(_said(hellos[name]) if name in hellos else {}),
                "details": _details(planned, results, use.engine, name),
            }
            for name, use in uses.items()
        },
        "versions": {"logitproof": _version(), "python": platform.python_version()},
        "host": {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()},
        "commands": [" ".join(["logitproof", *sys.argv[1:]])],
        "jobs": len(planned.jobs),
        "seconds": round(sum(result.seconds for result in results.values() if isinstance(result, Trace)), 3),
    }


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
    ours, theirs = reference.new_token_ids, candidate.new_token_ids
    shared = first_difference(ours, theirs)
    return ours[:shared], ours[shared:], theirs[shared:]


def shown_tokens(row: Compared, results: Mapping[str, Trace | Failure]) -> set[tuple[int, ...]]:
    """The tokens and stretches of tokens that a report of this prompt may show."""
    reference, candidate = results[row.pair.reference], results[row.pair.candidate]
    if row.comparison is None or not isinstance(reference, Trace) or not isinstance(candidate, Trace):
        return set()
    table = row.comparison.table
    columns = [table[f"top5_ids_{side}"].combine_chunks().flatten() for side in ("reference", "candidate")]
    singles = {token for column in [*columns, table["label"]] for token in column.to_pylist() if token >= 0}
    stretches = [reference.token_ids, *(parting(reference, candidate) if row.whole else [])]
    return {(token,) for token in singles} | {tuple(stretch) for stretch in stretches if stretch}


def _said(hello: HelloResult) -> dict[str, Any]:
    """What an engine said of itself before it loaded anything."""
    return {"versions": hello.versions, "isa": hello.isa, "machine": hello.machine.model_dump() if hello.machine else None}


def _details(planned: Plan, results: Mapping[str, Trace | Failure], engine: str, name: str) -> dict[str, Any]:
    """What each engine said when it loaded, by weights file: types, sizes and choices in effect."""
    found: dict[str, Any] = {}
    for job in planned.jobs:
        trace = results.get(job.key)
        if isinstance(trace, Trace) and trace.engine == name:
            found.setdefault(job.model.name, trace.details)
    return found


def _version() -> str:
    try:
        return importlib.metadata.version("logitproof")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cell_json(verdict: CellVerdict) -> dict[str, Any]:
    cell = verdict.cell
    return {
        "id": cell.id,
        "reference": cell.reference_name,
        "candidate": cell.candidate,
        "engine": cell.candidate_name,
        "model": cell.model,
        "quantization": cell.quantization,
        "mode": cell.mode,
        "isa": cell.isa,
        "status": verdict.status,
        "expected": verdict.expected,
        "as_expected": verdict.as_expected,
        "reason": verdict.reason,
        "witness": verdict.witness,
        "positions": verdict.positions,
        "counts": dict(verdict.counts),
        "band": asdict(verdict.band) if verdict.band else None,
        "power": _power_json(verdict.power),
        "metrics": {name: dict(statistics) for name, statistics in verdict.metrics.items()},
        "prompts": [_prompt_json(prompt) for prompt in verdict.prompts],
    }


def _prompt_json(prompt: PromptVerdict) -> dict[str, Any]:
    return {
        "suite": prompt.pair.suite,
        "prompt_idx": prompt.pair.prompt_idx,
        "prompt_id": prompt.pair.prompt.id,
        "prompt_sha256": prompt.pair.prompt.sha256,
        "bucket": prompt.pair.prompt.bucket,
        "status": prompt.status,
        "counts": prompt.counts,
        "waiver": prompt.waiver,
        "failure": asdict(prompt.failure) if prompt.failure else None,
    }


def _gate_json(gate: GateVerdict) -> dict[str, Any]:
    return {**asdict(gate), "if_fails": list(gate.if_fails), "power": _power_json(gate.power)}


def _power_json(power: Power | None) -> dict[str, Any] | None:
    return None if power is None else {**asdict(power), "missed": dict(power.missed)}


def _failing(cell: CellVerdict, prompt: PromptVerdict, row: Compared) -> Iterator[dict[str, Any]]:
    place = {
        "model": cell.cell.model,
        "quantization": cell.cell.quantization,
        "candidate": cell.cell.candidate,
        "mode": cell.cell.mode,
        "suite": prompt.pair.suite,
        "prompt_idx": prompt.pair.prompt_idx,
        "prompt_id": prompt.pair.prompt.id,
    }
    if prompt.failure is not None:
        yield {**place, "token_idx": None, "status": prompt.status, "error": prompt.failure.text}
        return
    if row.comparison is None:
        return
    for position, status in enumerate(prompt.statuses):
        if status == "WRONG":
            yield {**place, "token_idx": position, "status": status, **position_record(row.comparison, position)}
