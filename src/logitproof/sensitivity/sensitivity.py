"""The whole question: `sensitivity(path, asked)` measures, plans and says what stands behind it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from logitproof.contract.suite import open_suite
from logitproof.errors import ContractError, EnvironmentFailed, ModelError
from logitproof.files.untrusted import read_text
from logitproof.sensitivity.measure import Bench, Cost, Unit, units_of
from logitproof.sensitivity.plan import budget_of, bytes_of, planned
from logitproof.sensitivity.types import Tensor, bytes_in, check_types, type_of
from logitproof.weights.model import open_model, weights_sha256
from logitproof.weights.stored import is_quantized

if TYPE_CHECKING:
    from logitproof.sensitivity.subject import Subject

SUITE = "quality-100"
"""Whose prompts are the text where none is named."""


@dataclass(frozen=True)
class Asked:
    """What to measure: types, the first of which is that of layers, kinds and all but one; the text and how much of it."""

    types: tuple[str, ...]
    text: Path | None = None
    windows: int = 6
    tokens: int = 16
    budget: str = ""
    all_but: bool = True
    folder: Path | None = None


@dataclass(frozen=True)
class Plan:
    """Types within a budget: bytes with all other tensors, what the costs alone add up to, and what one pass measured."""

    budget: int
    bytes: int
    types: dict[str, str]
    predicted: float
    measured: Cost


@dataclass(frozen=True)
class Sensitivity:
    """What every unit costs, dearest first, and the plan where a budget was given. Figures in nats."""

    model: str
    sha256: str
    types: tuple[str, ...]
    windows: int
    tokens: int
    positions: int
    text: str
    weights: int
    fixed: int
    tensors: tuple[Tensor, ...] = field(repr=False)
    costs: tuple[Cost, ...] = field(repr=False)
    plan: Plan | None = None
    quantized: bool = False
    """whether the weights were quantized before, so that what that cost is not counted"""

    def of(self, group: str, *, but: bool = False, kind: str = "") -> list[Cost]:
        """The costs of a group in a type, the first where none is named, dearest first."""
        wanted = kind or self.types[0]
        costs = [cost for cost in self.costs if (cost.unit.group, cost.unit.but, cost.unit.type) == (group, but, wanted)]
        return sorted(costs, key=lambda cost: -cost.mean)

    def bytes_in(self, kind: str) -> int:
        """Bytes of all tensors with those that can be in this type."""
        return self.fixed + sum(bytes_in(type_of(tensor, kind), tensor.shape) for tensor in self.tensors)


def sensitivity(path: Path, asked: Asked, tell: Callable[[int, int, str], None]) -> Sensitivity:
    """Measure every unit of the model at `path`; `tell` hears how many of how many are measured, and which came last.

    Raises ContractError of a budget or a type that is none, ModelError of weights that cannot be read or have no known layout.
    """
    types = check_types(asked.types)
    if asked.budget and len(types) < 2:
        remedy = "name two or more, as in --type Q4_K --type Q6_K"
        raise ContractError("a plan mixes types, and only one is named", where="--type", remedy=remedy)
    text, name = _text(asked)
    subject, sha256 = _subject(path)
    weights = sum(math.prod(tensor.shape) for tensor in subject.tensors) + subject.others // 4
    budget = budget_of(asked.budget, weights) if asked.budget else 0
    if budget:
        _check_budget(subject, types, budget)
    fed = subject.fed(text, asked.windows, asked.tokens)
    bench = Bench(subject, fed, asked.folder, {"weights": sha256})
    units = list(units_of(subject.tensors, types, all_but=asked.all_but))
    costs, total = [], len(units) + bool(budget)
    for number, (unit, kinds) in enumerate(units, 1):
        costs.append(bench.cost(unit, kinds))
        tell(number, total, unit.id)
    plan = _plan(bench, costs, types, budget) if budget else None
    return Sensitivity(
        str(path),
        sha256,
        types,
        asked.windows,
        asked.tokens,
        bench.positions,
        name,
        weights,
        subject.others,
        tuple(subject.tensors),
        tuple(costs),
        plan,
        is_quantized(path),
    )


def _subject(path: Path) -> tuple[Subject, str]:
    """The model, and the sha256 of its weights; raises EnvironmentFailed without transformers."""
    opened = open_model(path, where="MODEL")
    if opened.format == "other":
        raise ContractError(
            f"{path} is neither a Hugging Face folder nor a GGUF file", where="MODEL", remedy="name one of them"
        )
    try:
        from logitproof.sensitivity.subject import Subject
    except ImportError as error:
        what = f"weights are planted in transformers: {error}"
        raise EnvironmentFailed(what, remedy="pip install 'logitproof[transformers]'") from None
    subject = Subject(path)
    subject.refuse_changed()
    if weights_sha256(path) != opened.sha256:
        raise ModelError("was replaced or written to while it was read", where=str(path), remedy="run the command again")
    return subject, opened.sha256


def _check_budget(subject: Subject, types: tuple[str, ...], budget: int) -> None:
    """A budget that nothing fits is refused before an hour of measuring."""
    nothing = {tensor.name: {type_of(tensor, kind): 0.0 for kind in types} for tensor in subject.tensors}
    planned(subject.tensors, nothing, budget, subject.others)


def _plan(bench: Bench, costs: list[Cost], types: tuple[str, ...], budget: int) -> Plan:
    tensors, fixed = bench.subject.tensors, bench.subject.others
    alone = {(cost.unit.name, cost.unit.type): cost.mean for cost in costs if cost.unit.group == "tensor" and not cost.unit.but}
    options = {tensor.name: {type_of(tensor, kind): alone[tensor.name, kind] for kind in types} for tensor in tensors}
    chosen = planned(tensors, options, budget, fixed)
    predicted = sum(options[name][kind] for name, kind in chosen.items())
    measured = bench.cost(Unit("plan", str(budget), "+".join(types)), chosen)
    return Plan(budget, fixed + bytes_of(chosen, tensors), chosen, predicted, measured)


def _text(asked: Asked) -> tuple[str, str]:
    """The text, and what it is called."""
    if asked.text is not None:
        text = read_text(asked.text, remedy="give a text file in UTF-8")
        return text, str(asked.text)
    prompts = open_suite(SUITE, Path()).prompts
    joined = "\n\n".join(prompt.text for prompt in prompts if prompt.text)
    return joined, f"the suite {SUITE}"
