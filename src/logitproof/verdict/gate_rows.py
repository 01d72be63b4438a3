"""What a gate looks at in the rows of a cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from logitproof.contract.contract import Gate
from logitproof.contract.scope import parse_scope
from logitproof.verdict.compared import Compared, values_of


def can_measure(gate: Gate, rows: Sequence[Compared]) -> bool:
    """A metric of whole prompts exists in free-running cells only, and such a gate means those."""
    return any(gate.metric in row.whole or (row.comparison and gate.metric in row.comparison.names) for row in rows)


def chosen(gate: Gate, row: Compared) -> list[int]:
    """Positions of a prompt in the gate's scope; a metric of whole prompts has one value."""
    count = len(values_of(row, gate.metric))
    return list(range(count)) if gate.metric in row.whole else list(parse_scope(gate.scope).positions(count, row.prompt_length))


def gate_values(gate: Gate, rows: Sequence[Compared]) -> list[np.ndarray]:
    """What a gate looks at, one array a prompt; nothing where a prompt failed."""
    if any(row.failure for row in rows):
        return []
    return [values_of(row, gate.metric)[chosen(gate, row)] for row in rows]
