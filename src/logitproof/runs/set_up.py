"""Is this a fair comparison? Runs every check of `preflight/` on every pair of a plan, before anything is judged.

A finding ends its cells in SET-UP ERROR: it is a fault of files or settings, and no verdict on an engine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitproof import catalog
from logitproof.contract.contract import ORIGINAL, Skip
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError, LogitproofError, did_you_mean
from logitproof.gguf.side import Side, open_side
from logitproof.jobs.cell import Cell, keys_of
from logitproof.jobs.group import failure_of, not_tried
from logitproof.jobs.job import Job
from logitproof.jobs.passes import crossing_in_model
from logitproof.jobs.plan import Plan
from logitproof.jobs.sides import path_of
from logitproof.jobs.spec import spec_key
from logitproof.preflight import Check, Examined, Finding, Preflight, Seen, Setting, Setup
from logitproof.rows.top import is_top
from logitproof.rows.transform import between
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.compared import Compared
from logitproof.weights.model import Model

Key = tuple[str, str, str, str]
"""Candidate, model, quantization and reference: what decides which files and settings meet."""
UNREADABLE = "PF000"
NAMES_THE_CAUSE = ("PF504", "PF505", "PF506", "PF507")
"""Findings that say what rows are instead."""
NOT_RUN = "not tried: preflight found a fault of the set-up"
BOS = "tokenizer.ggml.bos_token_id"


def examine(opened: OpenContract, planned: Plan) -> Preflight:
    """Compare what both sides of every planned cell will read; raises ContractError for a skip of no known code."""
    checks = _checks()
    skip = opened.contract.preflight
    _check_codes(opened, checks)
    sides: dict[Path, Side] = {}
    pairs, bos = [], {}
    for key in dict.fromkeys(_key(cell) for cell in planned.cells):
        candidate, model, quantization, against = key
        setup = _setup(opened, key, planned.models, sides)
        examined = [answer for check in checks for answer in _examined(check, setup)]
        findings = tuple(answer for answer in examined if isinstance(answer, Finding))
        leave = [finding for finding in findings if _is_skipped(finding, skip, setup)]
        pairs.append(
            Examined(
                candidate,
                model,
                quantization,
                tuple(answer for answer in examined if isinstance(answer, Setting)),
                tuple(finding for finding in findings if finding not in leave),
                tuple(leave),
                skip.reason if skip and leave else "",
                against,
            )
        )
        if (token := _bos(setup.original)) is not None:
            bos[model] = token
    return Preflight(tuple(pairs), bos)


def fair_jobs(planned: Plan, preflight: Preflight) -> tuple[Job, ...]:
    """The jobs that a cell without findings needs; the others would measure nothing that counts."""
    fair = [cell for cell in planned.cells if not preflight.findings(cell)]
    models = {cell.model for cell in fair}
    fair += [cell for cell in planned.yardsticks if cell.model in models]
    needed = {key for cell in fair for pair in cell.pairs for key in keys_of(pair)}
    return tuple(job for job in planned.jobs if job.key in needed)


def not_run(planned: Plan, run: Iterable[Job]) -> dict[str, Failure]:
    """A failure for every job that was left out."""
    left = {job.key: job for job in planned.jobs}
    for job in run:
        left.pop(job.key)
    return {key: Failure(key, job.spec.engine, "setup", NOT_RUN) for key, job in left.items()}


def unanswered(jobs: Iterable[Job], errors: Mapping[str, LogitproofError], names: Mapping[str, str]) -> dict[str, Failure]:
    """A failure for every job of an engine whose `hello` failed, by its specification, and for all that continues one.

    Nothing of it is asked again: an engine that answers later was planned without its tokenizer, its modes and its versions.
    The jobs stand in an order that respects `after`.
    """
    failures: dict[str, Failure] = {}
    for job in jobs:
        key = spec_key(job.spec)
        name = names.get(key, job.spec.engine)
        if key in errors:
            failures[job.key] = failure_of(job, name, errors[key])
        elif job.after in failures:
            failures[job.key] = not_tried(job, name, failures[job.after])
    return failures


def refuse(compared: Mapping[Cell, Sequence[Compared]], preflight: Preflight) -> dict[Cell, list[Compared]]:
    """The same comparisons; every prompt of a cell with findings is a failure of the set-up."""
    refused: dict[Cell, list[Compared]] = {}
    for cell, rows in compared.items():
        findings = preflight.findings(cell)
        failures = (
            [Compared(row.pair, failure=_failure(row.pair.candidate, cell, findings)) for row in rows] if findings else None
        )
        refused[cell] = failures or list(rows)
    return refused


def look(
    compared: Mapping[Cell, Sequence[Compared]],
    results: Mapping[str, Trace | Failure],
    opened: OpenContract,
    bos: Mapping[str, int],
) -> dict[Cell, list[Compared]]:
    """The same comparisons; where the traces themselves are a fault of the set-up, that stands in their place.

    Controls are let through: they are wrong on purpose.
    """
    seen: dict[Cell, list[Compared]] = {}
    for cell, rows in compared.items():
        if opened.contract.candidates[cell.candidate].expect is not None:
            seen[cell] = list(rows)
            continue
        mark = bos.get(cell.model)
        seen[cell] = [
            _looked(row, _OtherRows(cell, place, results), cell, results, opened, mark) for place, row in enumerate(rows)
        ]
        seen[cell] = [replace(row, remark=_remark(row, results)) for row in seen[cell]]
    return seen


def _remark(row: Compared, results: Mapping[str, Trace | Failure]) -> str:
    """What became of the right rows, where one function of a logit, or a scale, says nearly all of it."""
    reference, candidate = results.get(row.pair.reference), results.get(row.pair.candidate)
    if row.comparison is None or row.whole or not isinstance(reference, Trace) or not isinstance(candidate, Trace):
        return ""
    if is_top(reference.logits) or is_top(candidate.logits):
        return ""
    transform = between(reference.logits, candidate.logits)
    return transform.text if transform is not None else ""


NEAR = 64
"""Prompts before and behind one whose rows are looked at for its own: an engine that mixes requests up mixes up near ones, and
to look at all of them for each is the square of a suite."""


class _OtherRows(Mapping[str, Callable[[], np.ndarray]]):
    """What opens the reference's rows of the nearest other prompts of a cell, the next ones first; nothing is opened before."""

    def __init__(self, cell: Cell, place: int, results: Mapping[str, Trace | Failure]) -> None:
        self._results = results
        own = cell.pairs[place].reference
        near = sorted(range(max(place - NEAR, 0), min(place + NEAR + 1, len(cell.pairs))), key=lambda at: abs(at - place))
        pairs = [cell.pairs[at] for at in near]
        self._keys = {f"prompt {pair.prompt.id}": pair.reference for pair in pairs if pair.reference != own}

    def __getitem__(self, name: str) -> Callable[[], np.ndarray]:
        return functools.partial(self._opened, self._keys[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def _opened(self, key: str) -> np.ndarray:
        """The rows; none of a trace that failed, or that holds the best entries only."""
        trace = self._results.get(key)
        return trace.logits if isinstance(trace, Trace) and not is_top(trace.logits) else np.empty((0, 0), np.float32)


def _looked(
    row: Compared,
    others: Mapping[str, Callable[[], np.ndarray]],
    cell: Cell,
    results: Mapping[str, Trace | Failure],
    opened: OpenContract,
    bos: int | None,
) -> Compared:
    pair, contract = row.pair, opened.contract
    source, reference, candidate = (results.get(key) for key in (pair.source, pair.reference, pair.candidate))
    if row.failure is not None or not isinstance(reference, Trace) or not isinstance(candidate, Trace):
        return row
    # another reference's rows are not those that the continuation was chosen from
    first = source if isinstance(source, Trace) and not cell.against else None
    is_intended = contract.reference_of(cell.against).intended is not None
    crossing = crossing_in_model(opened, cell.model)
    crosses = crossing is not None and len(reference.token_ids) > crossing.length
    seen = Seen(cell.mode, cell.quantization, pair.prompt.id, first, reference, candidate, bos, is_intended, others, crosses)
    findings = [
        finding for check in _checks() for finding in check.look(seen) if not _has_leave(finding, contract.preflight, cell.axes)
    ]
    return replace(row, failure=_failure(pair.candidate, cell, findings), comparison=None, whole={}) if findings else row


@functools.cache
def _checks() -> list[Check]:
    return [catalog.load("preflight", name)() for name in catalog.entries("preflight")]


def _examined(check: Check, setup: Setup) -> Iterable[Setting | Finding]:
    name = type(check).__module__.rpartition(".")[2]
    try:
        return [replace(answer, check=name) if isinstance(answer, Setting) else answer for answer in check.examine(setup)]
    except LogitproofError as error:
        return [
            Finding(UNREADABLE, name, "–", error.text, error.where or str(setup.file.path), "", error.remedy, "cannot be read")
        ]


def _setup(opened: OpenContract, key: Key, models: Mapping[str, Model], sides: dict[Path, Side]) -> Setup:
    candidate, model, quantization, against = key
    # without an original a file is compared with what it says of itself, which is all that the reference reads too
    source = ORIGINAL if ORIGINAL in opened.contract.models[model] else quantization
    original, file = (path_of(opened, model, label) for label in (source, quantization))
    for path in (original, file):
        if path not in sides:
            sides[path] = open_side(path)
    return Setup(
        candidate,
        model,
        quantization,
        opened.contract.reference_of(against),
        opened.contract.candidates[candidate],
        sides[original],
        sides[file],
        opened.suites,
        models,
    )


def _bos(side: Side) -> int | None:
    keys = side.tokenizer if side.format != "other" else {}
    return keys.get(BOS) if isinstance(keys, dict) else None


def _key(cell: Cell) -> Key:
    return cell.candidate, cell.model, cell.quantization, cell.against


def _is_skipped(finding: Finding, skip: Skip | None, setup: Setup) -> bool:
    axes = {"candidate": setup.candidate_name, "model": setup.model, "quantization": setup.quantization}
    return _has_leave(finding, skip, axes)


def _has_leave(finding: Finding, skip: Skip | None, axes: Mapping[str, str]) -> bool:
    if skip is None or finding.code not in skip.skip:
        return False
    return all(values is None or axis not in axes or axes[axis] in values for axis, values in skip.where)


def _check_codes(opened: OpenContract, checks: Sequence[Check]) -> None:
    known = sorted({code for check in checks for code in check.codes})
    for index, code in enumerate(opened.contract.preflight.skip if opened.contract.preflight else ()):
        if code not in known:
            raise ContractError(
                f"preflight has no code {code!r}{did_you_mean(code, known)}",
                where=opened.where("preflight", "skip", index),
                remedy="the codes stand in docs/contract.md",
            )


def _failure(key: str, cell: Cell, findings: Sequence[Finding]) -> Failure:
    # what became of the rows says more than that two of them are equal, and decides
    findings = sorted(findings, key=lambda finding: finding.code not in NAMES_THE_CAUSE)
    text = "\n".join(str(finding) for finding in findings)
    return Failure(key, cell.candidate_name, "setup", text, findings[0].where, findings[0].remedy)
