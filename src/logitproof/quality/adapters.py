"""Is the adapter there at all? An ignored one must fail, and one that changes nothing proves nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitproof.comparison.compare import compare
from logitproof.jobs.sides import config_of, path_of
from logitproof.jobs.specs import specs
from logitproof.jobs.workers import Workers
from logitproof.report.report import Report
from logitproof.traces.trace import Trace
from logitproof.verdict.compared import Compared

PROMPTS = 3


def adapter_distances(report: Report) -> dict[str, tuple[float, float]]:
    """For every prefill cell of a contract whose reference has an adapter: mean KL in nats between the reference with and
    without it, and between the candidate and the reference without it, on a few prompts. Empty where there is no adapter.
    """
    opened = report.opened
    spec = specs(opened)["reference"]
    if not spec.options.get("adapter"):
        return {}
    plain = replace(spec, options={key: value for key, value in spec.options.items() if "adapter" not in key})
    means: dict[str, tuple[float, float]] = {}
    with Workers() as workers, tempfile.TemporaryDirectory() as folder:
        worker = workers.of(plain, "reference without its adapter")
        worker.hello()
        for cell, rows in report.compared.items():
            if cell.mode != "prefill":
                continue
            worker.load(path_of(opened, cell.model), config_of(opened, cell.model))
            pairs = [_traces(report, row) for row in _measured(rows)]
            distances = []
            for number, (reference, candidate) in enumerate(pairs):
                path = Path(folder) / f"{number}.bin"
                without = np.array(worker.score(reference.token_ids, "prefill", path).logits.open())
                distances.append((_kl(reference, without), _kl(candidate, without)))
            if distances:
                means[f"{cell.candidate}/{cell.model}/{cell.quantization}"] = tuple(np.mean(distances, axis=0))  # type: ignore[assignment]
    return means


def _measured(rows: Sequence[Compared]) -> list[Compared]:
    return [row for row in rows if row.comparison is not None][:PROMPTS]


def _kl(trace: Trace, without: np.ndarray) -> float:
    labels = np.array([*trace.token_ids[1:], -1], np.int64)
    return float(compare(trace.logits, without, labels=labels).metrics["kl_divergence"].mean())


def _traces(report: Report, row: Compared) -> tuple[Trace, Trace]:
    reference, candidate = report.results[row.pair.reference], report.results[row.pair.candidate]
    assert isinstance(reference, Trace) and isinstance(candidate, Trace)
    return reference, candidate
