"""The whole flow once: contract → plan → run → compare → judge → report. CLI, pytest and library call this."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.calibrate import Calibration
from logitproof.calibrations import Weights, find_calibrations, find_effects, weights_of
from logitproof.cell import Cell, Pair, Unmeasured
from logitproof.compare import Comparison, compare
from logitproof.contract import OpenContract, open_contract
from logitproof.errors import ContractError, EngineError, EngineGarbage, LogitproofError
from logitproof.gates import Compared
from logitproof.judge import Verdict, judge
from logitproof.metrics import PromptMetric
from logitproof.pins import Pins, read_pins, refuse_differences, verify_engines, verify_files
from logitproof.plan import Job, Plan, open_models, plan, specs
from logitproof.report import Report, Words, provenance, shown_tokens, words_key
from logitproof.run import Workers, run, spec_key
from logitproof.self_check import (
    OWN,
    WITNESS,
    as_json,
    further_specs,
    names_of,
    reference_errors,
    with_yardsticks,
    witness_words,
)
from logitproof.set_up import Preflight, examine, fair_jobs, look, not_run, refuse
from logitproof.store import Store, content_key, write_atomically
from logitproof.trace import Failure, Trace

Results = Mapping[str, Trace | Failure]


@dataclass(frozen=True)
class Progress:
    """`done` of `total` jobs have ended; `job` is the last of them and `result` what it gave."""

    done: int
    total: int
    job: Job
    result: Trace | Failure


def check(
    contract: Path | OpenContract,
    store: Store,
    *,
    only: str = "*",
    parallel: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_preflight: Callable[[Preflight], None] = lambda preflight: None,
) -> Report:
    """Run a contract and judge it; `on_preflight` is told of the comparison contract before any engine computes.

    Raises ContractError where the contract, a file it names or an option is wrong, before anything runs.
    An engine that fails is an ENGINE ERROR in the report, never an exception.
    """
    opened = contract if isinstance(contract, OpenContract) else open_contract(contract)
    pins = _verified_pins(opened)
    models = open_models(opened, only)
    with Workers() as workers:
        named = {**specs(opened), **further_specs(opened)}
        hellos = workers.hello(named)
        _refuse(opened, hellos)
        said = {name: hello for name, hello in hellos.items() if not isinstance(hello, Exception)}
        if pins is not None:
            refuse_differences(verify_engines(pins, said), opened.path)
        planned = with_yardsticks(opened, plan(opened, hellos, models, only=only), hellos)
        preflight = examine(opened, planned)
        names = {spec_key(spec): name for name, spec in {**names_of(planned), **named}.items()}
        on_preflight(preflight)
        jobs = {job.key: job for job in fair_jobs(planned, preflight)}
        results: dict[str, Trace | Failure] = dict(not_run(planned, jobs.values()))
        left = len(results)
        kept = spec_key(named["reference"])
        for result in run(jobs.values(), store, workers, names=names, parallel=parallel, kept=kept):
            results[result.key] = result
            on_progress(Progress(len(results) - left, len(jobs), jobs[result.key], result))
        weights = weights_of(opened, models)
        concluded = conclude(opened, planned.cells, planned.yardsticks, results, preflight, planned.unmeasured, weights)
        words = read_words(planned, concluded.compared, results, store, workers)
    facts = {**provenance(opened, planned, results, said), "preflight": preflight.as_json()}
    return concluded.report(opened, results, words, facts)


@dataclass(frozen=True)
class Concluded:
    """Traces compared, looked at and judged; `yardsticks` are the reference against itself and its witness."""

    compared: Mapping[Cell, Sequence[Compared]]
    yardsticks: Mapping[Cell, Sequence[Compared]]
    verdict: Verdict

    def report(self, opened: OpenContract, results: Results, words: Words, facts: Mapping[str, Any]) -> Report:
        """The report, with the reference's own errors among its facts."""
        errors = {"reference_error": as_json(self.yardsticks)}
        return Report(opened, self.verdict, self.compared, results, words, {**facts, **errors}, tuple(self.yardsticks))


def conclude(
    opened: OpenContract,
    cells: Iterable[Cell],
    yardsticks: Iterable[Cell],
    results: Results,
    preflight: Preflight,
    unmeasured: Sequence[Unmeasured],
    weights: Weights,
) -> Concluded:
    """From traces to a verdict; no engine is needed, so `judge RUN` calls this too."""
    cells = tuple(cells)
    calibrated, missing = find_calibrations(opened, cells, weights)
    compared = look(refuse(compare_cells(cells, results), preflight), results, opened, preflight.bos)
    compared = {cell: [_calibrated(row, cell, calibrated, missing, opened) for row in rows] for cell, rows in compared.items()}
    measured = compare_cells(yardsticks, results)
    verdict = judge(
        compared,
        opened.contract,
        unmeasured,
        own_errors=reference_errors(opened.contract, compared, measured),
        witness=witness_words(compared, measured),
        calibrated=calibrated,
        effects=find_effects(opened, cells, weights),
    )
    return Concluded(compared, measured, verdict)


def compare_cells(cells: Iterable[Cell], results: Results) -> dict[Cell, list[Compared]]:
    """Compare every pair of traces of every cell."""
    return {cell: [_compare_pair(pair, cell, results) for pair in cell.pairs] for cell in cells}


def _calibrated(
    row: Compared, cell: Cell, found: Mapping[str, Calibration], missing: Mapping[str, str], opened: OpenContract
) -> Compared:
    """The row; or a fault of the set-up where the contract judges it by what was not calculated for it."""
    reason = missing.get(cell.id, "")
    if cell.id in found and row.comparison is not None and found[cell.id].find(row.token_ids) is None:
        reason = "its tokens were not calibrated: the suite, the reference or the tokenizer has changed since"
    if not reason or row.failure is not None:
        return row
    remedy = f"run `logitproof calibrate {opened.path.name}`"
    failure = Failure(row.pair.candidate, cell.candidate_name, "setup", reason, f"prompt {row.pair.prompt.id}", remedy)
    return replace(row, failure=failure, comparison=None, whole={})


def read_words(
    planned: Plan, compared: Mapping[Cell, Sequence[Compared]], results: Results, store: Store, workers: Workers
) -> Words:
    """The text of every token that a report may show, from the reference's tokenizer.

    A report shows what it can: where the reference has no tokenizer, the ids stand for themselves.
    """
    jobs = {job.key: job for job in planned.jobs}
    wanted: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    sources: dict[str, Job] = {}
    for cell, rows in compared.items():
        for row in rows:
            if row.comparison is not None and row.pair.prompt.text is not None:
                sources[cell.model] = jobs[row.pair.source]
                wanted[cell.model] |= shown_tokens(row, results)
    return {model: _words(sources[model], stretches, store, workers) for model, stretches in wanted.items()}


def _words(job: Job, stretches: set[tuple[int, ...]], store: Store, workers: Workers) -> dict[str, str]:
    """Texts by key, remembered in the store so that a finished run loads no model for them."""
    file = store.folder / "words" / f"{content_key({'spec': job.spec.identity(), 'model': str(job.model)})}.json"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text("utf-8"))
    if missing := sorted(stretch for stretch in stretches if words_key(stretch) not in known):
        with contextlib.suppress(LogitproofError):
            worker = workers.of(job.spec, "reference")
            worker.load(job.model, job.config)
            known.update({words_key(stretch): worker.detokenize(stretch) for stretch in missing})
            write_atomically(file, json.dumps(known))
    return {words_key(stretch): known[words_key(stretch)] for stretch in stretches if words_key(stretch) in known}


def _verified_pins(opened: OpenContract) -> Pins | None:
    """The pins of a contract that has some; raises ContractError where a file is not what was pinned."""
    if opened.contract.pins is None:
        return None
    path = opened.folder / opened.contract.pins
    pins = read_pins(path)
    refuse_differences(verify_files(pins, opened.folder, opened), path)
    return pins


def _refuse(opened: OpenContract, hellos: Mapping[str, object]) -> None:
    """An option that an engine refuses is the contract's fault and stops everything at once."""
    for name, hello in hellos.items():
        if isinstance(hello, ContractError):
            keys = _keys(name)
            option = hello.where.rpartition(": ")[2]
            raise ContractError(hello.text, where=opened.where(*keys, "options", option), remedy=hello.remedy)


def _keys(name: str) -> tuple[str, ...]:
    """Where the contract names an engine."""
    if name in ("reference", WITNESS):
        return (name,)
    if name.startswith(OWN):
        return ("error_bar", "builds", name.rpartition(" ")[2])
    candidate, on, isa = name.partition(" on ")
    return ("candidates", candidate, "isa", isa) if on else ("candidates", name)


def _compare_pair(pair: Pair, cell: Cell, results: Results) -> Compared:
    """Compare the two traces of a prompt; any failure stands where the comparison would."""
    reference, candidate = results[pair.reference], results[pair.candidate]
    if isinstance(reference, Failure):
        return Compared(pair, failure=reference)
    if isinstance(candidate, Failure):
        return Compared(pair, failure=candidate)
    if pair.tokenized is not None and (failure := _tokenized_otherwise(pair, results)):
        return Compared(pair, failure=failure)
    try:
        if cell.mode == "greedy":
            return _compare_greedy(pair, reference, candidate)
        labels = np.array([*reference.token_ids[1:], -1], np.int64)
        source = results[pair.source]
        length = source.prompt_length if isinstance(source, Trace) else reference.prompt_length
        comparison = compare(reference.logits, candidate.logits, labels=labels)
        return Compared(pair, length, _finite(comparison, reference, candidate), token_ids=tuple(reference.token_ids))
    except EngineError as error:
        return Compared(pair, failure=_failure(pair.candidate, cell, error))


def _compare_greedy(pair: Pair, reference: Trace, candidate: Trace) -> Compared:
    """Free-running rows are comparable up to and including the first divergence."""
    ours, theirs = reference.new_token_ids, candidate.new_token_ids
    if not ours:
        return Compared(
            pair,
            failure=Failure(
                pair.reference,
                reference.engine,
                "setup",
                "the reference continued by no token",
                remedy="raise the suite's max_new_tokens or drop the greedy mode",
            ),
        )
    same = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    rows = min(same + 1, len(ours), len(theirs))
    if rows == 0:
        return Compared(pair, failure=Failure(pair.candidate, candidate.engine, "engine", "the candidate generated no token"))
    labels = np.array(ours[:rows], np.int64)
    comparison = _finite(compare(reference.logits[:rows], candidate.logits[:rows], labels=labels), reference, candidate)
    margins = comparison.metrics["margin"]
    whole = {name: float(metric.compute(ours, theirs, margins)) for name, metric in _prompt_metrics().items()}
    sequence = (*reference.token_ids, *ours)
    return Compared(pair, 0, comparison, None, whole, token_ids=sequence, start=len(reference.token_ids) - 1)


def _finite(comparison: Comparison, reference: Trace, candidate: Trace) -> Comparison:
    """The comparison, unless a position holds what no engine may give: a masked entry in one row only, say."""
    if (bad := comparison.nonfinite).size == 0:
        return comparison
    at = int(bad[0])
    side = "reference" if comparison.table["nonfinite_reference"][at].as_py() else "candidate"
    trace = reference if side == "reference" else candidate
    raise EngineGarbage(
        f"{bad.size} positions cannot be compared, the first at {at}: the {side} is infinite where the other is not",
        where=trace.engine,
        remedy="mask the same vocabulary entries in both engines, or none",
    )


@functools.cache
def _prompt_metrics() -> dict[str, PromptMetric]:
    kinds = {name: catalog.load("metrics", name) for name in catalog.entries("metrics")}
    return {name: kind() for name, kind in kinds.items() if issubclass(kind, PromptMetric)}


def _tokenized_otherwise(pair: Pair, results: Results) -> Failure | None:
    """Whether the candidate would feed itself other tokens than it is scored on: a set-up fault."""
    own, source = results[pair.tokenized or ""], results[pair.source]
    if isinstance(own, Failure):
        return own
    if not isinstance(source, Trace) or own.token_ids == source.token_ids:
        return None
    ours, theirs = source.token_ids, own.token_ids
    at = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    return Failure(
        pair.candidate,
        own.engine,
        "setup",
        f"tokenizes the prompt otherwise than the reference: at index {at} it has {theirs[at : at + 4]}, "
        f"the reference {ours[at : at + 4]} ({len(theirs)} tokens against {len(ours)})",
        where=f"prompt {pair.prompt.id}",
        remedy="look at BOS, special tokens and the pre-tokenizer of the candidate's file",
    )


def _failure(key: str, cell: Cell, error: LogitproofError) -> Failure:
    return Failure(key, cell.candidate_name, "engine", error.text, error.where, error.remedy)
