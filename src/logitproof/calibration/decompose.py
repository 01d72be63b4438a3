"""The divergence of quantized cells in two parts: what quantization took, and what the engine adds to it.

The reference runs again on the candidate's own file, dequantized, on the tokens of the run. Reference against that is the
quantization; that against the candidate is the engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.calibration.parts import Band, Expected
from logitproof.comparison.compare import compare
from logitproof.contract.contract import ORIGINAL
from logitproof.contract.isa import BETWEEN
from logitproof.errors import ContractError, EnvironmentFailed, Missing
from logitproof.jobs.session import Session
from logitproof.jobs.sides import config_of, path_of, reference_side
from logitproof.report.report import Report
from logitproof.rows.top import is_top
from logitproof.runs.calibrations import sides_of
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace
from logitproof.weights.stored import is_quantized

RUNS = 8
METRICS = ("kl_divergence", "rms_delta_logit")


@dataclass(frozen=True)
class Parts:
    """Means over all positions of a cell: KL in nats, RMS in logits. `share` is the engine's part of the mean square.

    The bands say where each part should be, by metric; None with a `reason` where they are not calculated.
    """

    cell: str
    positions: int
    total: dict[str, float]
    quantization: dict[str, float]
    engine: dict[str, float]
    quantization_band: Band | None = None
    engine_band: Band | None = None
    reason: str = ""

    @property
    def inside(self) -> bool | None:
        """Whether both parts are what arithmetic makes of them; None where there are no bands."""
        if self.quantization_band is None or self.engine_band is None:
            return None
        return is_inside(self.quantization, self.quantization_band) and is_inside(self.engine, self.engine_band)

    @property
    def share(self) -> float:
        """How much of the squared error is the engine's."""
        total = self.engine["rms_delta_logit"] ** 2 + self.quantization["rms_delta_logit"] ** 2
        return self.engine["rms_delta_logit"] ** 2 / total if total else 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "share": self.share, "inside": self.inside}


def is_inside(part: dict[str, float], band: Band) -> bool:
    """Whether every metric lies in its band; a NaN does not."""
    return all(low <= part[name] <= high for name, (low, high) in band.items())


def decompose(folder: Path, runs: int = RUNS, say: Callable[[str], None] = lambda line: None) -> list[Parts]:
    """Every quantized teacher-forced cell of the run in `folder`, with bands from so many `runs` under noise, or none of 0.

    Raises ContractError where the run has none, or its reference read the candidate's weights already; EngineError where the
    reference cannot read a file.
    """
    report = Workspace(folder).judge_again()
    if report.opened.contract.reference.weights == "candidate":
        text = "the reference read the candidate's weights, so the run holds the engine's part alone"
        raise ContractError(text, where=str(folder), remedy="decompose a run against the original weights")
    cells = [
        cell
        for cell in report.compared
        if _is_quantized(report, cell)
        and cell.mode in ("prefill", "decode")
        and BETWEEN not in cell.isa
        and _whole(report, cell)
    ]
    if not cells:
        raise ContractError("has no quantized cell with whole rows of logits", where=str(folder), remedy="run one first")
    parts: list[Parts] = []
    for model, quantization in dict.fromkeys((cell.model, cell.quantization) for cell in cells):
        say(f"the reference on {model} {quantization}, dequantized")
        of_file = [cell for cell in cells if (cell.model, cell.quantization) == (model, quantization)]
        parts += _with_bands(report, _of_file(report, model, quantization, of_file), of_file, runs, say)
    return parts


def _with_bands(report: Report, of_cells: list[Parts], cells: list[Any], runs: int, say: Callable[[str], None]) -> list[Parts]:
    """The parts of one file's cells with where they should be."""
    if not runs:
        return of_cells
    from logitproof.errors import Refusal

    original, weights = (path_of(report.opened, cells[0].model, label) for label in (ORIGINAL, cells[0].quantization))
    try:
        expected = Expected(original, weights, config_of(report.opened, cells[0].model), runs)
        return [_expected(report, cell, parts, expected, say) for cell, parts in zip(cells, of_cells, strict=True)]
    except (Refusal, EnvironmentFailed) as error:
        return [replace(parts, reason=error.text) for parts in of_cells]


def _expected(report: Report, cell: Any, parts: Parts, expected: Expected, say: Callable[[str], None]) -> Parts:
    sides = sides_of(report.opened, cell)
    if isinstance(sides, Missing):
        return replace(parts, reason=sides.reason)
    say(f"{cell.id}: what {sides.candidate} should add")
    ids = [tuple(candidate.token_ids) for _, candidate in _traces(report, cell)]
    return replace(parts, quantization_band=expected.quantization(sides, ids), engine_band=expected.engine(sides, ids))


def _is_quantized(report: Report, cell: Any) -> bool:
    """By label, or by content: a published file may be all that there is of a model."""
    return cell.quantization != ORIGINAL or is_quantized(path_of(report.opened, cell.model, cell.quantization))


def _whole(report: Report, cell: Any) -> bool:
    pairs = _traces(report, cell)
    held_in_part = any(trace.positions for pair in pairs for trace in pair)
    return not held_in_part and any(not is_top(candidate.logits) for _, candidate in pairs)


def _traces(report: Report, cell: Any) -> list[tuple[Trace, Trace]]:
    """Reference and candidate of every prompt that was compared."""
    rows = [row.pair for row in report.compared[cell] if row.comparison is not None]
    pairs = [(report.results[pair.reference], report.results[pair.candidate]) for pair in rows]
    return [
        (reference, candidate)
        for reference, candidate in pairs
        if isinstance(reference, Trace) and isinstance(candidate, Trace)
    ]


def _of_file(report: Report, model: str, quantization: str, cells: list[Any]) -> list[Parts]:
    side = reference_side(report.opened, model, quantization)
    with (
        tempfile.TemporaryDirectory(prefix="logitproof-decompose-") as name,
        Session(side.spec, side.name) as session,
    ):
        worker, _ = session.loaded(side.model, side.config)
        scored: dict[tuple[int, ...], np.ndarray] = {}
        parts = []
        for cell in cells:
            total, lost, added = [], [], []
            for reference, candidate in _traces(report, cell):
                ids = tuple(candidate.token_ids)
                if ids not in scored:
                    rows = worker.score(list(ids), "prefill", Path(name) / f"{len(scored)}.bin").logits
                    scored[ids] = np.array(rows.open())
                labels = [*ids[1:], -1]
                total.append(_metrics(reference.logits, candidate.logits, labels))
                lost.append(_metrics(reference.logits, scored[ids], labels))
                added.append(_metrics(scored[ids], candidate.logits, labels))
            count = sum(len(columns[METRICS[0]]) for columns in total)
            parts.append(Parts(cell.id, count, _means(total), _means(lost), _means(added)))
    return parts


def _metrics(reference: Any, candidate: Any, labels: list[int]) -> dict[str, np.ndarray]:
    return compare(np.asarray(reference), np.asarray(candidate), labels=labels).metrics


def _means(parts: list[dict[str, np.ndarray]]) -> dict[str, float]:
    every = {name: np.concatenate([part[name] for part in parts]) for name in METRICS}
    return {
        "kl_divergence": float(np.nanmean(every["kl_divergence"])),
        "rms_delta_logit": float(np.sqrt(np.nanmean(every["rms_delta_logit"] ** 2))),
    }
