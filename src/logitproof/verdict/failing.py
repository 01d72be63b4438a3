"""Which positions break what: a gate that fails, or the band of their cell.

Of a gate that fails every position of its scope counts whose own value is beyond the bound. A statistic lies between the
least and the greatest value that it is of, so where a gate fails there is at least one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from logitproof.bands.rule import JUDGED, Statuses, too_many
from logitproof.contract.contract import Gate
from logitproof.verdict.compared import Compared, values_of
from logitproof.verdict.gate_rows import chosen
from logitproof.verdict.gates import GateVerdict
from logitproof.verdict.judge import CellVerdict, PromptVerdict


@dataclass(frozen=True)
class Break:
    """What a position breaks: a gate, or the cell's band (`gate` is then empty).

    `observed` is the position's own value of the metric; `bound` is null for a band, whose tolerance is a position's own.
    """

    what: Literal["gate", "band"]
    gate: str
    metric: str
    observed: float
    operator: Literal["at_most", "at_least"]
    bound: float | None


def breaks_of(
    cell: CellVerdict, rows: Sequence[Compared], gates: Sequence[Gate], verdicts: Sequence[GateVerdict]
) -> list[dict[int, list[Break]]]:
    """One a prompt: everything that it breaks by position, in rising order; nothing where there is no comparison.

    A waived prompt counts in no gate. A metric of whole prompts is broken where both part.
    """
    statuses = [Statuses(prompt.statuses, bool(prompt.waiver)) for prompt in cell.prompts]
    excess = too_many(statuses, cell.band) if cell.band is not None else None
    outside = excess is not None and excess.kind != "WRONG"
    failed = {verdict.id: verdict for verdict in verdicts if verdict.cell == cell.cell.id and verdict.status == "FAIL"}
    pairs = [(gate, failed[gate.id]) for gate in gates if gate.id in failed]
    return [_of_prompt(prompt, row, pairs, outside) for prompt, row in zip(cell.prompts, rows, strict=True)]


def _of_prompt(
    prompt: PromptVerdict, row: Compared, failed: Sequence[tuple[Gate, GateVerdict]], outside: bool
) -> dict[int, list[Break]]:
    """`outside` says that positions which drift are too many."""
    if row.comparison is None:
        return {}
    breaks: dict[int, list[Break]] = {}
    bad = ("WRONG", "DRIFT") if outside and not prompt.waiver else ("WRONG",)
    distance, _, regret = JUDGED
    values = {name: values_of(row, name) for name in (distance, regret)}
    for position, status in enumerate(prompt.statuses):
        if status in bad:
            # where the whole rows are not known, the token that was chosen is what is too far off
            name = regret if np.isnan(values[distance][position]) else distance
            broken = Break("band", "", name, float(values[name][position]), "at_most", None)
            breaks.setdefault(position, []).append(broken)
    for gate, verdict in failed if not prompt.waiver else ():
        for position, broken in _of_gate(gate, verdict, row):
            breaks.setdefault(position, []).append(broken)
    return dict(sorted(breaks.items()))


def _of_gate(gate: Gate, verdict: GateVerdict, row: Compared) -> Iterator[tuple[int, Break]]:
    assert row.comparison is not None
    values, bound = values_of(row, gate.metric), verdict.bound
    for index in chosen(gate, row):
        value = float(values[index])
        size = abs(value) if gate.statistic == "rms" else value
        kept = size <= bound if verdict.operator == "at_most" else size >= bound
        if not kept and not np.isnan(value):
            position = row.comparison.positions - 1 if gate.metric in row.whole else index
            yield position, Break("gate", gate.id, gate.metric, value, verdict.operator, bound)
