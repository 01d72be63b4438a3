"""Calculates the bands of a contract: the reference runs, then repetitions of it under every candidate's arithmetic.

No candidate computes anything: what a band is calculated from must not know what it will judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitproof.bands.calculated import METRIC, Calibration, Repeated, scale, tokens_sha256
from logitproof.bands.kept import Sides, Weights, folder_of, is_own, sides_of, weights_of, write_calibration
from logitproof.bands.power import Effects, write_effects
from logitproof.calibration.subject import Subject
from logitproof.comparison.compare import Comparison, compare
from logitproof.contract.contract import ORIGINAL, OpenContract
from logitproof.errors import ContractError, EngineError, EnvironmentFailed
from logitproof.jobs.cell import Cell, Pair
from logitproof.jobs.plan import Plan, open_models, plan, specs
from logitproof.jobs.pool import LocalPool
from logitproof.jobs.run import run
from logitproof.jobs.workers import Workers
from logitproof.rows.distance import rms, rms_by_position
from logitproof.runs.yardsticks import OWN, further_specs, with_yardsticks
from logitproof.traces.store import Store
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.compared import Compared, compare_cells

if TYPE_CHECKING:
    from logitproof.reference.predict import Predictor

RUNS = 8
LEFT_OUT = ("position", "label", "margin", "margin_probability")
"""Columns that say nothing of how far two engines are apart."""


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
    with Workers() as workers:
        hellos = workers.hello({**specs(opened), **further_specs(opened)})
        planned = with_yardsticks(opened, plan(opened, hellos, models, only=only), hellos)
        wanted = _reference_jobs(planned)
        jobs = [job for job in planned.jobs if job.key in wanted]
        results: dict[str, Trace | Failure] = {}
        for result in run(jobs, store, executor=LocalPool(workers, parallel=parallel)):
            results[result.key] = result
            say(f"reference: {len(results)} of {len(jobs)}")
    weights = weights_of(opened, models)
    predictors = _Predictors(opened)
    done: dict[Sides, tuple[Calibration, Subject] | str] = {}
    found: list[Calibrated] = []
    for cell in planned.cells:
        sides, sequences = sides_of(opened, cell), _sequences(cell, results)
        if isinstance(sides, str) or isinstance(sequences, str):
            found.append(Calibrated(cell, reason=sides if isinstance(sides, str) else str(sequences)))
            continue
        if sides not in done:
            say(f"{cell.id}: {runs} runs in {sides.candidate}")
            alike = [other for other in planned.cells if sides_of(opened, other) == sides]
            shared = list(dict.fromkeys(tokens for other in alike for tokens in _listed(other, results)))
            spread = None if all(is_own(other) for other in alike) else _measured_spread(planned, sides, results)
            one = _calibration(predictors, sides, shared, weights, spread, (runs, seed))
            done[sides] = one if isinstance(one, str) else (one, Subject(predictors.both(sides), sides, one, shared))
        if isinstance(known := done[sides], str):
            found.append(Calibrated(cell, reason=known))
            continue
        path = write_calibration(folder_of(opened), known[0])
        found.append(Calibrated(cell, known[0], path, "", tuple(sequences), _lengths(cell, results)))
    if not power:
        return found
    keys = {one.calibration.key for one in found if one.calibration is not None and not is_own(one.cell)}
    subjects = [one[1] for one in done.values() if not isinstance(one, str) and one[0].key in keys]
    return _with_effects(opened, predictors, found, subjects, say)


def _with_effects(
    opened: OpenContract,
    predictors: _Predictors,
    found: Sequence[Calibrated],
    subjects: Sequence[Subject],
    say: Callable[[str], None],
) -> list[Calibrated]:
    """With what known bugs would do, written too; nothing where the original is no folder of transformers."""
    from logitproof.calibration.effects import measure_effects

    effects: dict[str, Effects] = {}
    for model in dict.fromkeys(one.sides.model for one in subjects):
        if not (original := predictors.original(model)).is_dir():
            say(f"{model}: no known bug is planted, since its original is no folder of transformers")
            continue
        say(f"{model}: known bugs are planted")
        wanted = [one for one in subjects if one.sides.model == model]
        metrics = [gate.metric for gate in opened.contract.gates]
        effects |= measure_effects(original, wanted, metrics=metrics, say=say)
    for key, one in effects.items():
        write_effects(folder_of(opened), key, one)
    return [
        replace(one, effects=effects.get(one.calibration.key)) if one.calibration and not is_own(one.cell) else one
        for one in found
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
        config = self.original(model)
        path = (self._opened.folder / self._opened.contract.models[model][label]).resolve()
        if path not in self._known:
            self._known[path] = Predictor(path, config if config.is_dir() else None)
        return self._known[path]

    def both(self, sides: Sides) -> tuple[Predictor, Predictor]:
        """Those of the reference's weights and the candidate's."""
        return self.of(sides.model, sides.truth), self.of(sides.model, sides.label)

    def original(self, model: str) -> Path:
        """Where the unquantized model lies."""
        return (self._opened.folder / self._opened.contract.models[model][ORIGINAL]).resolve()


def _reference_jobs(planned: Plan) -> set[str]:
    """Keys of the reference's own runs: its texts, its scores, and itself under settings that should not matter."""
    wanted = {pair.source for cell in planned.cells for pair in cell.pairs}
    own = [cell for cell in planned.yardsticks if cell.candidate.startswith(OWN)]
    return wanted | {key for cell in own for pair in cell.pairs for key in (pair.source, pair.reference, pair.candidate)}


def _sequences(cell: Cell, results: Mapping[str, Trace | Failure]) -> list[tuple[int, ...]] | str:
    """The tokens of every prompt of a cell, or why there are none."""
    found = []
    for pair in cell.pairs:
        one = _tokens(pair, results)
        if isinstance(one, str):
            return one
        found.append(one)
    return found


def _lengths(cell: Cell, results: Mapping[str, Trace | Failure]) -> tuple[int, ...]:
    """Tokens of every prompt, without those that the reference continued it by."""
    sources = [results[pair.source] for pair in cell.pairs]
    return tuple(one.prompt_length if isinstance(one, Trace) else 0 for one in sources)


def _listed(cell: Cell, results: Mapping[str, Trace | Failure]) -> list[tuple[int, ...]]:
    found = _sequences(cell, results)
    return [] if isinstance(found, str) else found


def _tokens(pair: Pair, results: Mapping[str, Trace | Failure]) -> tuple[int, ...] | str:
    source = results[pair.source]
    if isinstance(source, Failure):
        return f"the reference failed at prompt {pair.prompt.id}: {source.text}"
    return (*source.token_ids, *source.new_token_ids)


def _measured_spread(planned: Plan, sides: Sides, results: Mapping[str, Trace | Failure]) -> float | None:
    """RMS logit difference of the reference from itself, under the setting where it is largest; None where not measured."""
    own = [
        cell
        for cell in planned.yardsticks
        if cell.candidate.startswith(OWN) and (cell.model, cell.quantization) == (sides.model, sides.truth)
    ]
    worst: float | None = None
    for rows in compare_cells([cell for cell in own if cell.mode != "greedy"], results).values():
        values = [one.comparison.metrics[METRIC] for one in _compared(rows)]
        if values:
            flat = np.concatenate(values)
            worst = max(worst or 0.0, float(np.sqrt(np.mean(flat**2))))
    return worst


def _compared(rows: Iterable[Compared]) -> list[Any]:
    return [row for row in rows if row.comparison is not None]


def _calibration(
    predictors: _Predictors,
    sides: Sides,
    sequences: Sequence[tuple[int, ...]],
    weights: Weights,
    measured: float | None,
    repetitions: tuple[int, int],
) -> Calibration | str:
    from logitproof.errors import Refusal

    runs, seed = repetitions
    try:
        truth, own = predictors.both(sides)
        rounding = _reference_rounding(truth, sides, sequences[0], runs, seed)
        # two runs of one arithmetic are apart by √2 of what each is from the truth
        spread = max(1.0, measured / (2**0.5 * rounding)) if measured and rounding else 1.0
        found = {tokens_sha256(one): repeat(truth, own, sides, one, runs, seed, spread) for one in sequences}
        quantization = 0.0 if truth is own else rms([_apart(truth, own, one) for one in sequences])
    except Refusal as refusal:
        return f"{refusal.text} ({refusal.remedy})" if refusal.remedy else refusal.text
    about = {
        "reference": str(sides.reference),
        "candidate": str(sides.candidate),
        "runs": runs,
        "seed": seed,
        "predicted": rms([scale(one.fixed[METRIC]) for one in found.values()]),
        "rounding": rounding,
        "measured_spread": measured,
        "spread": spread,
        "quantization": quantization,
        "flips": float(np.mean(np.concatenate([one.flipped.ravel() for one in found.values()]))),
    }
    return Calibration(sides.key(weights), about, found)


def repeat(
    truth: Predictor, own: Predictor, sides: Sides, token_ids: Sequence[int], runs: int, seed: int, spread: float = 1.0
) -> Repeated:
    """Both arithmetics `runs` times on one sequence; the reference's errors are `spread` times those of its rounding."""
    exact = truth.exact(token_ids)
    labels = np.array([*token_ids[1:], -1], np.int64)

    def once(number: int, free: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
        noise = 2 * (seed * runs + number)
        ours = truth.noisy(token_ids, sides.reference, noise, free=free)
        theirs = own.noisy(token_ids, sides.candidate, noise + 1, free=free)
        rows = compare(exact + spread * (ours.logits - exact), theirs.logits, labels=labels)
        return _columns(rows), ours.flipped | theirs.flipped

    fixed = _stacked([once(number, False)[0] for number in range(runs)])
    if not own.routes:
        return Repeated(fixed, fixed, np.zeros((runs, len(token_ids)), bool))
    found = [once(number, True) for number in range(runs)]
    return Repeated(fixed, _stacked([rows for rows, _ in found]), np.array([flipped for _, flipped in found]))


def _columns(comparison: Comparison) -> dict[str, np.ndarray]:
    if comparison.nonfinite.size:
        raise EngineError("a repetition under noise is not finite", remedy="this arithmetic overflows in this model")
    return {name: values for name, values in comparison.metrics.items() if name not in LEFT_OUT}


def _stacked(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _reference_rounding(truth: Predictor, sides: Sides, token_ids: Sequence[int], runs: int, seed: int) -> float:
    exact = truth.exact(token_ids)
    return rms(rms_by_position(truth.noisy(token_ids, sides.reference, seed + number).logits - exact) for number in range(runs))


def _apart(truth: Predictor, own: Predictor, token_ids: Sequence[int]) -> np.ndarray:
    return rms_by_position(own.exact(token_ids) - truth.exact(token_ids))
