"""A budget of bytes spent where it saves most KL divergence, and the file by which llama-quantize does the same.

Costs of tensors alone are added up, which is a model: what a plan costs in truth is measured afterwards, in one pass.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from logitproof.errors import ContractError
from logitproof.sensitivity.types import Tensor, bytes_in

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
BITS = ("BPW", "BITS")
BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
Options = Mapping[str, Mapping[str, float]]
"""KL divergence in nats by tensor and by type, alone."""


def budget_of(text: str, weights: int) -> int:
    """Bytes that `60MB`, `1.5GiB` or `4.5bpw` (bits a weight, of `weights`) are; raises ContractError of anything else."""
    match = BUDGET.fullmatch(text.strip())
    unit = match[2].upper() if match else ""
    size = float(match[1]) * (weights / 8 if unit in BITS else UNITS.get(unit, 0)) if match else 0.0
    if not 1 <= size < math.inf:
        remedy = "write bytes with their unit, as 60MB or 1.5GiB, or bits a weight, as 4.5bpw"
        raise ContractError(f"{text!r} is no budget", where="--budget", remedy=remedy)
    return int(size)


def planned(tensors: Sequence[Tensor], options: Options, budget: int, fixed: int) -> dict[str, str]:
    """A type for every tensor, so that all weigh at most `budget` bytes with the `fixed` ones of tensors that have no choice.

    Greedy: all begin in their lightest type, and the change that saves most KL a byte is made as long as one fits. Raises
    ContractError where the lightest types weigh more.
    """
    types = {tensor.name: _by_weight(tensor, options[tensor.name]) for tensor in tensors}
    chosen = {tensor.name: types[tensor.name][0] for tensor in tensors}
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    room = budget - fixed - sum(bytes_in(kind, shapes[name]) for name, kind in chosen.items())
    if room < 0:
        text = f"the lightest types weigh {budget - room:,} bytes ({(budget - room) / 1e6:.1f} MB), the budget is {budget:,}"
        raise ContractError(text, where="--budget", remedy="give more, or a lighter --type")
    while step := _best(types, chosen, options, shapes, room):
        name, kind, size = step
        chosen[name] = kind
        room -= size
    return chosen


def bytes_of(kinds: Mapping[str, str], tensors: Sequence[Tensor]) -> int:
    """Bytes of the tensors in these types."""
    return sum(bytes_in(kinds[tensor.name], tensor.shape) for tensor in tensors)


def tensor_type_file(kinds: Mapping[str, str]) -> str:
    """What `llama-quantize --tensor-type-file` reads: a regular expression for each name, and its type, a line each.

    Anchored, since the tool searches for the expression anywhere in a name (llama-quant.cpp) and takes the first that fits.
    """
    return "".join(f"^{re.escape(name).lower()}$={kind.lower()}\n" for name, kind in kinds.items())


def _by_weight(tensor: Tensor, costs: Mapping[str, float]) -> list[str]:
    return sorted(costs, key=lambda kind: (bytes_in(kind, tensor.shape), costs[kind]))


def _best(
    types: Mapping[str, list[str]],
    chosen: Mapping[str, str],
    options: Options,
    shapes: Mapping[str, tuple[int, ...]],
    room: int,
) -> tuple[str, str, int] | None:
    """The tensor, the type and the bytes of the change that saves most a byte; None where none that fits saves anything."""
    best, most = None, 0.0
    for name, kinds in types.items():
        now, costs = chosen[name], options[name]
        for kind in kinds:
            more, saved = bytes_in(kind, shapes[name]) - bytes_in(now, shapes[name]), costs[now] - costs[kind]
            if 0 < more <= room and saved > 0 and (best is None or saved / more > most):
                best, most = (name, kind, more), saved / more
    return best
