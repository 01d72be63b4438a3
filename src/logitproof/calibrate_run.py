"""Calculates the bands of a contract: the reference runs, then repetitions of it under every candidate's arithmetic.

No candidate computes anything: what a band is calculated from must not know what it will judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logitproof.calibrate import METRIC, Calibration, Repeated, calculated_band, gate_bound, scale, tokens_sha256
from logitproof.calibrations import Sides, Weights, folder_of, sides_of, weights_of, write_calibration
from logitproof.cell import Cell, Pair
from logitproof.check import compare_cells
from logitproof.compare import Comparison, compare
from logitproof.contract import ORIGINAL, OpenContract
from logitproof.errors import ContractError, EngineError, EnvironmentFailed
from logitproof.gates import Compared
from logitproof.plan import Plan, open_models, plan, specs
from logitproof.run import Workers, run
from logitproof.self_check import OWN, further_specs, with_yardsticks
from logitproof.store import Store
from logitproof.trace import Failure, Trace

if TYPE_CHECKING:
    from logitproof.engines._predict import Predictor

RUNS = 8
LEFT_OUT = ("position", "label", "margin", "margin_probability")
"""Columns that say nothing of how far two engines are apart."""


@dataclass(frozen=True)
class Calibrated:
    """One cell with its calibration, or why it has none."""

    cell: Cell
    calibration: Calibration | None = None
    path: Path | None = None
    reason: str = ""
    sequences: tuple[tuple[int, ...], ...] = ()


def calibrate_contract(
    opened: OpenContract,
    store: Store,
    *,
    only: str = "*",
    runs: int = RUNS,
    seed: int = 0,
    parallel: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> list[Calibrated]:
    """Calculate and write the calibration of every cell that can have one; nothing of a candidate is run but its hello.

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
        for result in run(jobs, store, workers, parallel=parallel):
            results[result.key] = result
            say(f"reference: {len(results)} of {len(jobs)}")
    weights = weights_of(opened, models)
    predictors = _Predictors(opened)
    done: dict[Sides, Calibration | str] = {}
    found = []
    for cell in planned.cells:
        sides = sides_of(opened, cell)
        if isinstance(sides, str):
            found.append(Calibrated(cell, reason=sides))
            continue
        sequences = _sequences(cell, results)
        if isinstance(sequences, str):
            found.append(Calibrated(cell, reason=sequences))
            continue
        if sides not in done:
            say(f"{cell.id}: {runs} runs in {sides.candidate}")
            shared = [one for other in planned.cells if sides_of(opened, other) == sides for one in _listed(other, results)]
            spread = _measured_spread(planned, sides, results)
            done[sides] = _calibration(predictors, sides, list(dict.fromkeys(shared)), weights, spread, (runs, seed))
        one = done[sides]
        if isinstance(one, str):
            found.append(Calibrated(cell, reason=one))
        else:
            found.append(Calibrated(cell, one, write_calibration(folder_of(opened), one), "", tuple(sequences)))
    return found


def as_yaml(opened: OpenContract, found: Sequence[Calibrated]) -> str:
    """`bands:` and `gates:` as a contract would hold them, with the calculated numbers beside them."""
    lines = ["bands:"]
    for one in found:
        where = f"{{candidate: {one.cell.candidate}, model: {one.cell.model}, quantization: {one.cell.quantization}, "
        where += f"mode: {one.cell.mode}}}"
        if one.calibration is None:
            lines.append(f"  # {one.cell.id}: {one.reason}")
            continue
        band = calculated_band(one.calibration, one.sequences)
        flat = np.concatenate(list(band.match.values()))
        lines += [
            f"  - where: {where}",
            "    bound: calibrated",
            f"    basis: {_quoted(one.calibration.basis)}",
            f"    # match {flat.min():.3g} to {flat.max():.3g} logits, at most {band.beyond:.2%} of positions beyond",
        ]
    lines.append("gates:")
    for gate in opened.contract.gates:
        for one in found:
            if one.calibration is None or not gate.where.selects(one.cell.axes):
                continue
            side = "at_most" if gate.at_most is not None else "at_least"
            places = [(tokens, range(len(tokens))) for tokens in one.sequences]
            try:
                bound = gate_bound(one.calibration, gate.metric, gate.statistic, places, at_most=side == "at_most")
            except ContractError:
                continue
            said = "calibrated" if gate.is_calibrated else f"{gate.bound:.3g}"
            lines.append(f"  # {gate.id} in {one.cell.id}: {side} {said}, over all positions {bound:.3g} is calculated")
    return "\n".join(lines)


def power_lines(opened: OpenContract, found: Sequence[Calibrated]) -> Iterator[str]:
    """For each calibration, as comments of YAML: the weakest known bug that its band catches, and how many it misses."""
    from logitproof.detection import detection_power

    yield "# detection power, of the known bugs that one pass over given tokens can show:"
    seen: set[str] = set()
    for one in found:
        model = (opened.folder / opened.contract.models[one.cell.model][ORIGINAL]).resolve()
        if one.calibration is None or one.calibration.key in seen or not model.is_dir():
            continue
        seen.add(one.calibration.key)
        power = detection_power(model, one.calibration, one.sequences)
        missed = ", ".join(f"{name} {size:.1g}" for name, size in sorted(power.missed.items(), key=lambda item: -item[1]))
        yield f"#   {one.cell.id}: {len(power.caught)} of {len(power.caught) + len(power.missed)} are caught"
        yield f"#     the weakest of them: {power.weakest or 'none'}"
        yield f"#     not caught (times the noise): {missed or 'none'}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Predictors:
    """One model in float64 for each file, opened when it is first asked."""

    def __init__(self, opened: OpenContract) -> None:
        self._opened = opened
        self._known: dict[Path, Predictor] = {}

    def of(self, model: str, label: str) -> Predictor:
        """Raises Refusal of weights that transformers cannot read, EnvironmentFailed without torch."""
        try:
            from logitproof.engines._predict import Predictor
        except ImportError as error:
            raise EnvironmentFailed(
                f"bands are calculated with transformers: {error}", remedy="pip install 'logitproof[transformers]'"
            ) from None
        files = self._opened.contract.models[model]
        path, config = ((self._opened.folder / files[name]).resolve() for name in (label, ORIGINAL))
        if path not in self._known:
            self._known[path] = Predictor(path, config if config.is_dir() else None)
        return self._known[path]


def _reference_jobs(planned: Plan) -> set[str]:
    """Keys of the reference's own runs: its texts, its scores, and itself under settings that should not matter."""
    wanted = {
        key for cell in planned.cells if cell.mode != "self" for pair in cell.pairs for key in (pair.source, pair.reference)
    }
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
    from logitproof.engines import Refusal

    runs, seed = repetitions
    try:
        truth, own = predictors.of(sides.model, sides.truth), predictors.of(sides.model, sides.label)
        rounding = _reference_rounding(truth, sides, sequences[0], runs, seed)
        # two runs of one arithmetic are apart by √2 of what each is from the truth
        spread = max(1.0, measured / (2**0.5 * rounding)) if measured and rounding else 1.0
        found = {tokens_sha256(one): repeat(truth, own, sides, one, runs, seed, spread) for one in sequences}
        quantization = 0.0 if truth is own else _rms([_apart(truth, own, one) for one in sequences])
    except Refusal as refusal:
        return f"{refusal.text} ({refusal.remedy})" if refusal.remedy else refusal.text
    about = {
        "reference": str(sides.reference),
        "candidate": str(sides.candidate),
        "runs": runs,
        "seed": seed,
        "predicted": _rms([scale(one.fixed[METRIC]) for one in found.values()]),
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
    exact, rows = truth.exact(token_ids), []
    labels = np.array([*token_ids[1:], -1], np.int64)
    free_rows, flips = [], []
    for number in range(runs):
        reference = exact
        if sides.reference.base != "float64":
            ours = truth.noisy(token_ids, sides.reference, 2 * (seed * runs + number))
            reference = exact + spread * (ours.logits - exact)
        noise = 2 * (seed * runs + number) + 1
        rows.append(_columns(compare(reference, own.noisy(token_ids, sides.candidate, noise).logits, labels=labels)))
        if own.routes:
            free = own.noisy(token_ids, sides.candidate, noise, free=True)
            free_rows.append(_columns(compare(reference, free.logits, labels=labels)))
            flips.append(free.flipped)
    fixed = _stacked(rows)
    flipped = np.array(flips) if flips else np.zeros((runs, len(token_ids)), bool)
    return Repeated(fixed, _stacked(free_rows) if free_rows else fixed, flipped)


def _columns(comparison: Comparison) -> dict[str, np.ndarray]:
    if comparison.nonfinite.size:
        raise EngineError("a repetition under noise is not finite", remedy="this arithmetic overflows in this model")
    return {name: values for name, values in comparison.metrics.items() if name not in LEFT_OUT}


def _stacked(rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _reference_rounding(truth: Predictor, sides: Sides, token_ids: Sequence[int], runs: int, seed: int) -> float:
    exact = truth.exact(token_ids)
    return _rms([_by_position(exact, truth.noisy(token_ids, sides.reference, seed + number).logits) for number in range(runs)])


def _apart(truth: Predictor, own: Predictor, token_ids: Sequence[int]) -> np.ndarray:
    return _by_position(truth.exact(token_ids), own.exact(token_ids))


def _by_position(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """RMS logit difference [T] after the mean difference is taken off."""
    delta = theirs - ours
    delta -= delta.mean(axis=1, keepdims=True)
    return np.asarray(np.sqrt((delta**2).mean(axis=1)))


def _rms(values: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2)))
