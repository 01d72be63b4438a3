"""The whole flow once: contract → plan → run → compare → judge → report. CLI, pytest and library call this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from logitproof.bands.band import Band
from logitproof.bands.calculated import CalculatedBand, Calibration
from logitproof.comparison.compare import prepare
from logitproof.contract.contract import Contract, EngineUse
from logitproof.contract.opened import OpenContract, open_contract
from logitproof.errors import ContractError, LogitproofError, Missing
from logitproof.jobs.cell import Cell
from logitproof.jobs.job import Job
from logitproof.jobs.plan import Plan, open_models, plan
from logitproof.jobs.pool import Elsewhere, Executor, LocalPool, Speller
from logitproof.jobs.progress import Progress
from logitproof.jobs.run import run
from logitproof.jobs.spec import Spec
from logitproof.jobs.specs import REFERENCE, specs
from logitproof.jobs.workers import Workers, spec_key
from logitproof.preflight import Preflight
from logitproof.protocol.messages import HelloResult
from logitproof.report.report import Report, Words, provenance
from logitproof.runs.calibrations import Weights, find_calibrations, find_effects, weights_of
from logitproof.runs.identity import new_run_id
from logitproof.runs.kept import name_of, together, without
from logitproof.runs.pins import Pins, read_pins, refuse_differences, verify_engines, verify_files
from logitproof.runs.programs import Programs
from logitproof.runs.set_up import examine, fair_jobs, look, not_run, refuse, unanswered
from logitproof.runs.words import read_words
from logitproof.runs.yardsticks import (
    OWN,
    WITNESS,
    as_json,
    further_specs,
    names_of,
    reference_errors,
    with_yardsticks,
    witness_words,
)
from logitproof.traces.aside import Aside
from logitproof.traces.store import TraceStore
from logitproof.traces.trace import Failure
from logitproof.verdict.case import Case, band_of, bounds_of
from logitproof.verdict.compared import Compared, Results, compare_cells
from logitproof.verdict.ignorant import admitted
from logitproof.verdict.judge import Verdict, judge
from logitproof.verdict.suspect import suspicion_of
from logitproof.verdict.ties import outside_ties


def check(
    contract: Path | OpenContract,
    store: TraceStore,
    *,
    only: str = "*",
    parallel: int = 1,
    run_id: str = "",
    executor: Executor | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_preflight: Callable[[Preflight], None] = lambda preflight: None,
) -> Report:
    """Run a contract and judge it; `on_preflight` is told of the comparison contract before any engine computes.

    Engines run where the `executor` starts them, without one here, `parallel` at a time. A run without a `run_id` gets one.
    Raises ContractError where the contract, a file it names or an option is wrong, before anything runs.
    An engine that fails is an ENGINE ERROR in the report, never an exception.
    """
    opened = contract if isinstance(contract, OpenContract) else open_contract(contract)
    pins = _verified_pins(opened)
    models = open_models(opened, only)
    with Workers() as workers:
        lacks = executor.lacks if isinstance(executor, Elsewhere) else None
        named = {**specs(opened, lacks), **further_specs(opened)}
        programs = Programs.of(named)
        executor = executor or LocalPool(workers, parallel=parallel, kept=spec_key(named["reference"]))
        hellos = _asked(executor, named)
        answered = _answered(opened, hellos, pins)
        planned = with_yardsticks(opened, plan(opened, hellos, models, only=only, lacks=lacks), hellos)
        preflight = examine(opened, planned)
        names = {spec_key(spec): name for name, spec in {**names_of(planned), **named}.items()}
        on_preflight(preflight)
        fair = fair_jobs(planned, preflight)
        errors = {spec_key(named[name]): hello for name, hello in hellos.items() if isinstance(hello, LogitproofError)}
        silent = unanswered(fair, errors, names)
        jobs = {job.key: job for job in fair if job.key not in silent}
        tally = _Tally(names, Aside({**not_run(planned, fair), **silent}))
        tally.run(jobs, store, executor, on_progress)
        programs.refuse_changed(store, tally.measured(jobs))
        concluded = conclude(opened, planned, tally.results, preflight, weights_of(opened, models))
        speller = executor if isinstance(executor, Speller) else LocalPool(workers)
        words = read_words(planned, concluded.compared, tally.results, store, speller)
    facts = {
        "run_id": run_id or new_run_id(),
        **provenance(opened, planned, tally.results, answered),
        "preflight": preflight.as_json(),
        **tally.facts(),
        "ended_badly": [{"engine": name, "how": how} for name, how in workers.ended_badly],
    }
    return concluded.report(opened, tally.results, words, facts)


@dataclass
class _Tally:
    """What the jobs of a run come to, which of them the store had, and what was measured again and why."""

    names: Mapping[str, str]
    results: Aside
    _stored: set[str] = field(default_factory=set)
    _again: Counter[tuple[str, str]] = field(default_factory=Counter)

    def run(
        self, jobs: Mapping[str, Job], store: TraceStore, executor: Executor, on_progress: Callable[[Progress], None]
    ) -> None:
        """Run `jobs`, by key, and tell of each as it ends."""
        before, stale, stored = len(self.results), self._on_stale, self._on_stored
        for result in run(jobs.values(), store, executor=executor, names=self.names, on_stale=stale, on_stored=stored):
            self.results[result.key] = result
            done = len(self.results) - before
            on_progress(Progress(done, len(jobs), jobs[result.key], result, result.key in self._stored))

    def measured(self, jobs: Mapping[str, Job]) -> list[Job]:
        """Those of `jobs` that the store had not."""
        return [job for key, job in jobs.items() if key not in self._stored]

    def facts(self) -> dict[str, Any]:
        """What the report says of it."""
        again = [{"engine": name, "reason": why, "traces": count} for (name, why), count in self._again.items()]
        return {"measured_again": again, "from_store": len(self._stored)}

    def _on_stale(self, job: Job, reason: str) -> None:
        self._again[self.names.get(spec_key(job.spec), job.spec.engine), reason] += 1

    def _on_stored(self, job: Job) -> None:
        self._stored.add(job.key)


@dataclass(frozen=True)
class Concluded:
    """Traces compared, looked at and judged; `yardsticks` are the reference against itself and its witness."""

    compared: Mapping[Cell, Sequence[Compared]]
    yardsticks: Mapping[Cell, Sequence[Compared]]
    verdict: Verdict
    cases: Sequence[Case]
    """what the verdict was reached from, a cell each"""
    looked: Mapping[Cell, Sequence[Compared]]
    """as they were compared, before any band"""

    def report(self, opened: OpenContract, results: Results, words: Words, facts: Mapping[str, Any]) -> Report:
        """The report, with the reference's own errors among its facts."""
        errors = {"reference_error": as_json(self.yardsticks)}
        yardsticks = tuple(self.yardsticks)
        return Report(opened, self.verdict, self.compared, results, words, {**facts, **errors}, yardsticks, self.looked)


def conclude(
    opened: OpenContract,
    planned: Plan,
    results: Results,
    preflight: Preflight,
    weights: Weights,
    kept: Mapping[str, Mapping[int, Compared]] = MappingProxyType({}),
) -> Concluded:
    """From traces to a verdict, by the plan's cells; no engine is needed, so `judge RUN` calls this too.

    Where rows were not kept, `kept` holds what they were compared to, by cell and number of the prompt.
    """
    contract, today = opened.contract, date.today()
    calibrations = find_calibrations(opened, planned.cells, weights)
    asked = {cell: without(cell, kept.get(name_of(cell), {})) for cell in (*planned.cells, *planned.yardsticks)}
    fresh = refuse(compare_cells([asked[cell] for cell in planned.cells], results), preflight)
    seen = look(fresh, results, opened, preflight.bos)
    looked = {cell: together(cell, kept.get(name_of(cell), {}), seen[asked[cell]]) for cell in planned.cells}
    compared = {cell: [_calibrated(row, cell, calibrations.get(cell.id), opened) for row in looked[cell]] for cell in looked}
    bands = {cell: _band(opened, cell, rows, calibrations) for cell, rows in compared.items()}
    compared = {cell: [outside_ties(row, bands[cell]) for row in rows] for cell, rows in compared.items()}
    own = compare_cells([asked[cell] for cell in planned.yardsticks], results)
    measured = {cell: together(cell, kept.get(name_of(cell), {}), own[asked[cell]]) for cell in planned.yardsticks}
    own_errors, witness = reference_errors(contract, bands, measured), witness_words(compared, measured)
    effects = find_effects(opened, planned.cells, weights)
    calibrated = {cell: None if isinstance(known := calibrations.get(cell.id), Missing) else known for cell in compared}
    cases = [
        replace(
            _case(contract, cell, rows, bands[cell], calibrated[cell], today),
            own_errors=own_errors.get(cell.id, {}),
            witness=witness.get(cell.id, ""),
            effects=effects.get(cell.id),
        )
        for cell, rows in compared.items()
    ]
    cases = [replace(case, suspicion=case.suspicion or admitted(case, contract, results, today)) for case in cases]
    verdict = judge(cases, contract, planned.unmeasured, today=today)
    return Concluded(compared, measured, verdict, cases, looked | measured)


def _case(
    contract: Contract,
    cell: Cell,
    rows: Sequence[Compared],
    band: Band | CalculatedBand | None,
    calibration: Calibration | None,
    today: date,
) -> Case:
    """A cell with what it is judged by, but for what other cells say of it."""
    alike = calibration is None or calibration.is_of_one_arithmetic
    bounds = bounds_of(contract, cell, rows, calibration, today)
    suspicion = suspicion_of(contract, cell, rows, band, same_arithmetic=alike)
    return Case(cell, rows, band, bounds, suspicion=suspicion, same_arithmetic=alike)


def _band(
    opened: OpenContract, cell: Cell, rows: Sequence[Compared], calibrations: Mapping[str, Calibration | Missing]
) -> Band | CalculatedBand | None:
    known = calibrations.get(cell.id)
    return band_of(opened.contract, cell, rows, None if isinstance(known, Missing) else known)


def _calibrated(row: Compared, cell: Cell, calibration: Calibration | Missing | None, opened: OpenContract) -> Compared:
    """The row; or a fault of the set-up where the contract judges it by what was not calculated for it."""
    if row.failure is not None or row.comparison is None or calibration is None:
        return row
    if isinstance(calibration, Missing):
        reason = calibration.reason
    elif calibration.find(row.token_ids) is None:
        reason = "its tokens were not calibrated: the suite, the reference or the tokenizer has changed since"
    else:
        return row
    remedy = f"run `logitproof calibrate {opened.path.name}`"
    failure = Failure(row.pair.candidate, cell.candidate_name, "setup", reason, f"prompt {row.pair.prompt.id}", remedy)
    return replace(row, failure=failure, comparison=None, whole={})


def _asked(executor: Executor, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
    """What the engines say of themselves; while they start, the comparison is loaded."""
    pool = ThreadPoolExecutor(1)
    pool.submit(prepare)
    pool.shutdown(wait=False)
    return executor.hello(named)


def _verified_pins(opened: OpenContract) -> Pins | None:
    """The pins of a contract that has some; raises ContractError where a file is not what was pinned."""
    if opened.contract.pins is None:
        return None
    path = opened.folder / opened.contract.pins
    pins = read_pins(path)
    refuse_differences(verify_files(pins, opened.folder, opened), path)
    return pins


def _answered(
    opened: OpenContract, hellos: Mapping[str, HelloResult | LogitproofError], pins: Pins | None
) -> dict[str, HelloResult]:
    """The engines that said who they are; ContractError where one refuses an option, or is not what was pinned."""
    _refuse(opened, hellos)
    answered = {name: hello for name, hello in hellos.items() if not isinstance(hello, Exception)}
    if pins is not None:
        refuse_differences(verify_engines(pins, answered), opened.path)
    return answered


def _refuse(opened: OpenContract, hellos: Mapping[str, object]) -> None:
    """An option that an engine refuses is the contract's fault and stops everything at once."""
    for name, hello in hellos.items():
        if isinstance(hello, ContractError):
            option = hello.where.rpartition(": ")[2]
            keys = () if option == name else (option,) if option in EngineUse.model_fields else ("options", option)
            raise ContractError(hello.text, where=opened.where(*_keys(name), *keys), remedy=hello.remedy)


def _keys(name: str) -> tuple[str, ...]:
    """Where the contract names an engine."""
    if name in ("reference", WITNESS):
        return (name,)
    if name.startswith(OWN):
        return ("error_bar", "builds", name.rpartition(" ")[2])
    if name.startswith(f"{REFERENCE} "):
        return ("references", name.removeprefix(f"{REFERENCE} "))
    candidate, on, isa = name.partition(" on ")
    return ("candidates", candidate, "isa", isa) if on else ("candidates", name)
