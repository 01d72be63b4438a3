"""Cases made by hand, without engine or file: rows whose numbers are known, so that a verdict can be worked out on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from logitproof.bands.band import Band, PositionStatus
from logitproof.comparison.compare import Comparison
from logitproof.contract.contract import Contract
from logitproof.contract.suite import Prompt
from logitproof.jobs.cell import Cell, Pair
from logitproof.traces.trace import Failure
from logitproof.verdict.case import Case
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict, Verdict, judge

BASIS = "a reason of more than ten letters"
TODAY = date(2026, 1, 1)
BAND = Band(match=1.0, wrong=2.0, allow=0.0, basis=BASIS)
NUMBERS: dict[PositionStatus, tuple[float, float, float]] = {
    "MATCH": (0.5, 1.0, 0.0),
    "DRIFT": (1.5, 1.0, 0.0),
    "TIE-FLIP": (0.5, 0.0, 0.1),
    "WRONG": (3.0, 1.0, 0.0),
    "NOT-MEASURED": (np.nan, np.nan, np.nan),
}
"""RMS logit difference, top-1 and regret of each status under `BAND`."""
CONTROL = {"engine": "llamacpp", "expect": "WRONG"}


def contract(**changes: Any) -> Contract:
    """A contract of one engine; `changes` replace its keys."""
    return Contract.model_validate(
        {
            "contract": "one",
            "reference": {"engine": "transformers"},
            "candidates": {"mine": {"engine": "llamacpp"}, "control": CONTROL},
            "models": {"m": {"original": "m"}},
            "suites": ["s"],
            "bands": [{"match": 1.0, "wrong": 2.0, "basis": BASIS}],
            "gates": [gate("kl", at_most=1.0)],
            **changes,
        }
    )


def gate(name: str, metric: str = "kl_divergence", **words: Any) -> dict[str, Any]:
    return {"id": name, "metric": metric, "basis": BASIS, **words}


def waiver(number: int, **changes: Any) -> dict[str, Any]:
    """A waiver of the prompt of this number."""
    prompt = Prompt(id=f"p{number}", text=f"text {number}")
    words = {"cell": "*", "prompt": prompt.sha256, "issue": "one/1", "until": "2999-01-01", "reason": BASIS}
    return {"id": f"w{number}", **words, **changes}


def pair(number: int) -> Pair:
    return Pair("s", number, Prompt(id=f"p{number}", text=f"text {number}"), "s", "r", "c", None)


def row(number: int, *statuses: PositionStatus, length: int = 1, **columns: Sequence[float]) -> Compared:
    """A prompt whose positions have these statuses, with further metrics; KL divergence is 0.1 unless it is given."""
    numbers = np.array([NUMBERS[status] for status in statuses], np.float64).reshape(-1, 3)
    values = {"rms_delta_logit": numbers[:, 0], "top1": numbers[:, 1], "regret": numbers[:, 2]}
    values |= {"kl_divergence": np.full(len(statuses), 0.1)}
    values |= {name: np.array(column, np.float64) for name, column in columns.items()}
    comparison = Comparison(pa.table(values), tuple(values))
    return Compared(pair(number), length, comparison, token_ids=tuple(range(len(statuses))), planned=len(statuses))


def failed(number: int, fault: Any = "engine", text: str = "it died") -> Compared:
    return Compared(pair(number), failure=Failure("c", "mine", fault, text))


def case(*rows: Compared, candidate: str = "mine", band: Any = BAND, **words: Any) -> Case:
    return Case(Cell(candidate, "m", "original", words.pop("mode", "prefill"), "native", "r", "c"), rows, band, **words)


def verdict(*cases: Case, unmeasured: Any = (), **changes: Any) -> Verdict:
    return judge(cases, contract(**changes), unmeasured, today=TODAY)


def cell(*rows: Compared, changes: Mapping[str, Any] | None = None, **words: Any) -> CellVerdict:
    """The verdict on one cell of these rows."""
    (judged,) = verdict(case(*rows, **words), **(changes or {})).cells
    return judged


def whole(*rows: Compared, **changes: Any) -> tuple[str, int, str]:
    """Status, exit code and reason of a run of one cell."""
    judged = verdict(case(*rows), **changes)
    return judged.status, judged.exit_code, judged.reason


def by_itself(row: Compared, **numbers: float) -> Compared:
    """The row with metrics of its whole prompt."""
    return replace(row, whole=numbers)
