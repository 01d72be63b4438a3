"""Calculates the bands of a contract: the reference runs, then repetitions of it under every candidate's arithmetic.

No candidate computes anything: what a band is calculated from must not know what it will judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitproof.bands.calculated import METRIC, Calibration
from logitproof.bands.power import Effects, write_effects
from logitproof.calibration.repeat import calibration_of
from logitproof.calibration.subject import Subject
from logitproof.contract.contract import ORIGINAL
from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError, EnvironmentFailed, Missing
from logitproof.jobs.cell import Cell
from logitproof.jobs.plan import Plan, open_models, plan
from logitproof.jobs.pool import LocalPool
from logitproof.jobs.run import run
from logitproof.jobs.sides import config_of, path_of, planted_in
from logitproof.jobs.specs import specs
from logitproof.jobs.workers import Workers
from logitproof.runs.calibrations import Sides, Weights, folder_of, is_own, sides_of, weights_of, write_calibration
from logitproof.runs.yardsticks import OWN, further_specs, with_yardsticks
from logitproof.traces.aside import Aside
from logitproof.traces.store import Store
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.compared import Compared, Results, compare_cells
from logitproof.weights.model import Model

if TYPE_CHECKING:
    from logitproof.reference.predict import Predictor

RUNS = 8


@dataclass(frozen=True)
class Calibrated:
    """One cell with its calibration, or why it has none. `lengths` are those of the prompts, without what follows them."""

    cell: Cell
    calibration: Calibration | None = None
    path: Path | None = None
    reason: str = ""
    sequences: tuple[tuple[int, ...], ...] = ()
    lengths: tuple[int, ...] = ()
    effects: Effects | None = None


def calibrate_contract(
    opened: OpenContract,
    store: Store,
    *,
    only: str = "*",
    runs: int = RUNS,
    seed: int = 0,
    power: bool = False,
    parallel: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[Calibrated]:
    """Calculate and write the calibration of every cell that can have one; nothing of a candidate is run but its hello.

    With `power`, known bugs are planted too, and what each would do is written beside it.
    Raises ContractError where the contract is wrong or fewer than two runs are asked for, EnvironmentFailed without torch.
    """
    if runs < 2:
        raise ContractError(f"{runs} runs have no spread", where="--runs", remedy="ask for at least 2")
    models = open_models(opened, only)
    planned, results = _run_reference(opened, store, models, only, parallel, say)
    asked = {cell.id: _asked(opened, cell, results) for cell in planned.cells}
    predictors, weights = _Predictors(opened), weights_of(opened, models)
    subjects: dict[Sides, Subject | Missing] = {}
    for sides, alike in _by_sides(asked.values()).items():
        say(f"{alike[0].cell.id}: {runs} runs in {sides.candidate}")
        shared = list(dict.fromkeys(tokens for request in alike for tokens in request.sequences))
        spread = None if all(is_own(request.cell) for request in alike) else _measured_spread(planned, sides, results)
        subjects[sides] = _subject(predictors, sides, shared, weights, spread, (runs, seed))
    folder = folder_of(opened)
    paths = {
        sides: write_calibration(folder, subject.calibration)
        for sides, subject in subjects.items()
        if isinstance(subject, Subject)
    }
    calibrated = [_calibrated(cell, asked[cell.id], subjects, paths) for cell in planned.cells]
    if not power:
        return calibrated
    judged = {request.sides for request in asked.values() if isinstance(request, _Asked) and not is_own(request.cell)}
    planted = [subject for sides, subject in subjects.items() if sides in judged and isinstance(subject, Subject)]
    return _with_effects(opened, predictors, calibrated, planted, say)


@dataclass(frozen=True)
class _Asked:
    """A cell that can be calibrated: whose weights and arithmetics, and on what tokens."""

    cell: Cell
    sides: Sides
    sequences: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]


def _run_reference(
    opened: OpenContract, store: Store, models: Mapping[str, Model], only: str, parallel: int, say: Callable[[str], None]
) -> tuple[Plan, Results]:
    """The plan, and the results of its jobs that are the reference's own."""
    results = Aside()
    with Workers() as workers:
        hellos = workers.hello({**specs(opened), **further_specs(opened)})
        planned = with_yardsticks(opened, plan(opened, hellos, models, only=only), hellos)
        wanted = _reference_jobs(planned)
        jobs = [job for job in planned.jobs if job.key in wanted]
        for result in run(jobs, store, executor=LocalPool(workers, parallel=parallel)):
            results[result.key] = result
            say(f"reference: {len(results)} of {len(jobs)}")
    return planned, results


def _asked(opened: OpenContract, cell: Cell, results: Results) -> _Asked | Missing:
    sides, sequences = sides_of(opened, cell), _sequences(cell, results)
    if isinstance(sides, Missing):
        return sides
    return sequences if isinstance(sequences, Missing) else _Asked(cell, sides, tuple(sequences), _lengths(cell, results))


def _by_sides(asked: Iterable[_Asked | Missing]) -> dict[Sides, list[_Asked]]:
    """Cells that one calibration serves."""
    groups: dict[Sides, list[_Asked]] = {}
    for request in asked:
        if isinstance(request, _Asked):
            groups.setdefault(request.sides, []).append(request)
    return groups


def _calibrated(
    cell: Cell, asked: _Asked | Missing, subjects: Mapping[Sides, Subject | Missing], paths: Mapping[Sides, Path]
) -> Calibrated:
    if isinstance(asked, Missing):
        return Calibrated(cell, reason=asked.reason)
    subject = subjects[asked.sides]
    if isinstance(subject, Missing):
        return Calibrated(cell, reason=subject.reason)
    return Calibrated(cell, subject.calibration, paths[asked.sides], "", asked.sequences, asked.lengths)


def _with_effects(
    opened: OpenContract,
    predictors: _Predictors,
    calibrated: Sequence[Calibrated],
    subjects: Sequence[Subject],
    say: Callable[[str], None],
) -> list[Calibrated]:
    """The cells with what known bugs would do, which is written too; unchanged where no bug can be planted."""
    from logitproof.calibration.effects import measure_effects

    effects: dict[str, Effects] = {}
    for model in dict.fromkeys(subject.sides.model for subject in subjects):
        try:
            folder, weights = planted_in(opened, model, predictors.original(model))
        except ContractError as error:
            say(f"{model}: no known bug is planted: {error.text}")
            continue
        say(f"{model}: known bugs are planted")
        wanted = [subject for subject in subjects if subject.sides.model == model]
        metrics = [gate.metric for gate in opened.contract.gates]
        effects |= measure_effects(folder, wanted, weights=weights, metrics=metrics, say=say)
    for key, effect in effects.items():
        write_effects(folder_of(opened), key, effect)
    return [
        replace(cell, effects=effects.get(cell.calibration.key)) if cell.calibration and not is_own(cell.cell) else cell
        for cell in calibrated
    ]


class _Predictors:
    """One model in float64 for each file, opened when it is first asked."""

    def __init__(self, opened: OpenContract) -> None:
        self._opened = opened
        self._known: dict[Path, Predictor] = {}

    def of(self, model: str, label: str) -> Predictor:
        """Raises Refusal of weights that transformers cannot read, EnvironmentFailed without torch."""
        try:
            from logitproof.reference.predict import Predictor
        except ImportError as error:
            raise EnvironmentFailed(
                f"bands are calculated with transformers: {error}", remedy="pip install 'logitproof[transformers]'"
            ) from None
        path = path_of(self._opened, model, label)
        if path not in self._known:
            self._known[path] = Predictor(path, config_of(self._opened, model))
        return self._known[path]

    def of_sides(self, sides: Sides) -> tuple[Predictor, Predictor]:
        """The predictors of the reference's weights and of the candidate's."""
        return self.of(sides.model, sides.truth), self.of(sides.model, sides.label)

    def original(self, model: str) -> Path:
        """Where the unquantized model lies, or the first file of one that has no other."""
        files = self._opened.contract.models[model]
        return path_of(self._opened, model, ORIGINAL if ORIGINAL in files else next(iter(files)))


def _reference_jobs(planned: Plan) -> set[str]:
    """Keys of the reference's own runs: its texts, its scores, and itself under settings that should not matter."""
    wanted = {pair.source for cell in planned.cells for pair in cell.pairs}
    own = [cell for cell in planned.yardsticks if cell.candidate.startswith(OWN)]
    return wanted | {key for cell in own for pair in cell.pairs for key in (pair.source, pair.reference, pair.candidate)}


def _sequences(cell: Cell, results: Results) -> list[tuple[int, ...]] | Missing:
    """The tokens of every prompt of a cell, or why there are none."""
    sequences = []
    for pair in cell.pairs:
        source = results[pair.source]
        if isinstance(source, Failure):
            return Missing(f"the reference failed at prompt {pair.prompt.id}: {source.text}")
        sequences.append((*source.token_ids, *source.new_token_ids))
    return sequences


def _lengths(cell: Cell, results: Results) -> tuple[int, ...]:
    """Tokens of every prompt, without those that the reference continued it by."""
    sources = [results[pair.source] for pair in cell.pairs]
    return tuple(source.prompt_length if isinstance(source, Trace) else 0 for source in sources)


def _measured_spread(planned: Plan, sides: Sides, results: Results) -> float | None:
    """RMS logit difference of the reference from itself, under the setting where it is largest; None where not measured."""
    own = [
        cell
        for cell in planned.yardsticks
        if cell.candidate.startswith(OWN) and (cell.model, cell.quantization) == (sides.model, sides.truth)
    ]
    worst: float | None = None
    for rows in compare_cells([cell for cell in own if cell.mode != "greedy"], results).values():
        values = [row.comparison.metrics[METRIC] for row in _compared(rows)]
        if values:
            flat = np.concatenate(values)
            worst = max(worst or 0.0, float(np.sqrt(np.mean(flat**2))))
    return worst


def _compared(rows: Iterable[Compared]) -> list[Any]:
    return [row for row in rows if row.comparison is not None]


def _subject(
    predictors: _Predictors,
    sides: Sides,
    sequences: Sequence[tuple[int, ...]],
    weights: Weights,
    measured: float | None,
    repetitions: tuple[int, int],
) -> Subject | Missing:
    """The calibration of one pair of sides and what it was made of; `repetitions` are runs and seed."""
    from logitproof.errors import Refusal

    try:
        truth, own = predictors.of_sides(sides)
        calibration = calibration_of((truth, own), sides, sequences, measured, repetitions, sides.key(weights))
    except Refusal as refusal:
        return Missing(f"{refusal.text} ({refusal.remedy})" if refusal.remedy else refusal.text)
    return Subject((truth, own), sides, calibration, sequences)
