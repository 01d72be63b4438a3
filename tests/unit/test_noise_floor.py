"""When what a bug leaves is noise: by the engine's arithmetic in the model as it is, and in the one that the bug has spoilt."""

from __future__ import annotations

from typing import Any, cast

import pytest

from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.diagnosis.found import Mutant
from logitproof.diagnosis.noise import Floor
from logitproof.diagnosis.trial import Trial

BUG = Mutant("weights.gate_up_swapped", {}, 1.54)


class Amplifying:
    """A model that makes 0.1 logits of an arithmetic's roundings, and 1.6 with the bug planted."""

    def imitated(self, arithmetic: Arithmetic, bugs: Any = ()) -> float:
        return 1.6 if bugs == [(BUG.name, BUG.options)] else 0.1

    def rounding(self, bugs: Any = ()) -> float:
        return 1.0

    def spread(self) -> float:
        return 4.0


def floor(arithmetic: Arithmetic | None, to_reference: float) -> Floor:
    return Floor(cast(Trial, Amplifying()), 1e-3, 0.1, "arithmetic", to_reference, arithmetic)


@pytest.mark.parametrize(
    ("left", "to_reference", "explained"), [(0.2, 5.4, True), (1.54, 5.4, True), (1.54, 4.0, False), (2.5, 90.0, False)]
)
def test_a_bug_that_makes_the_model_amplify_its_roundings_may_leave_what_they_come_to(
    left: float, to_reference: float, explained: bool
) -> None:
    """Never more than half as much again as is foretold, and always a third of what was to be explained."""
    assert floor(arithmetic_of("llamacpp", {}), to_reference).explains(left, (BUG,)) == explained


def test_without_an_arithmetic_nothing_is_foretold() -> None:
    assert floor(None, 5.4).explains(0.2, (BUG,))
    assert not floor(None, 5.4).explains(1.54, (BUG,))
