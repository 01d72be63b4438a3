"""What a scan writes into its state, reads out of it and keeps: B and C, their groups, the skip, the state itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations._precision import rounded
from logitproof.mutations.scan._scan import SCAN, Given, WrongScanCall, WrongScanInput
from logitproof.reference import parts


class InAndOutSwapped(WrongScanInput, id="scan.b_and_c_swapped"):
    """B, which writes into the state, and C, which reads out of it, are mistaken for each other."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.scan.core",
        remedy="the projection holds x, B, C in this order",
    )

    def given(self, right: Given) -> Given:
        return {"b": right["c"], "c": right["b"]}


class _OfGroups(WrongScanInput):
    """B and C of another group than a head's own."""

    def applies(self, config: Any) -> bool:
        """Models with more than one group."""
        return super().applies(config) and parts.scans(parts.skeleton(config))[0].n_groups > 1


class OneGroup(_OfGroups, id="scan.one_group_for_all"):
    """All heads read B and C of the first group."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="head h belongs to group h // (heads / groups)"
    )

    def given(self, right: Given) -> Given:
        groups = right["b"].ndim - 2
        return {name: right[name].narrow(groups, 0, 1).expand_as(right[name]) for name in ("b", "c")}


class GroupsReversed(_OfGroups, id="scan.groups_in_other_order"):
    """B and C are dealt out to the heads in another order of the groups."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="head h belongs to group h // (heads / groups)"
    )

    def given(self, right: Given) -> Given:
        return {name: right[name].flip(-2) for name in ("b", "c")}


class GroupsNotForReading(_OfGroups, id="scan.groups_of_c_ignored"):
    """C is read from the first group by all heads; B is right."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="B and C have the same groups")

    def given(self, right: Given) -> Given:
        return {"c": right["c"].narrow(right["c"].ndim - 2, 0, 1).expand_as(right["c"])}


class SkipMissing(WrongScanInput, id="scan.skip_missing"):
    """The skip of the input past the state (D * x) is left out."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="add D * x to what is read out of the state"
    )

    def given(self, right: Given) -> Given:
        return {"d": torch.zeros_like(right["d"])}


class SkipOfOne(WrongScanInput, id="scan.skip_not_loaded"):
    """The skip D is one, as it is initialized, and not what the checkpoint holds."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="load D")

    def given(self, right: Given) -> Given:
        return {"d": torch.ones_like(right["d"])}


class SkipOfFirstHead(WrongScanInput, id="scan.skip_shared"):
    """All heads take the skip D of the first one."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.scan.core", remedy="each head has a D of its own")

    def given(self, right: Given) -> Given:
        return {"d": right["d"][:1].expand_as(right["d"])}


class _StepByStep(WrongScanCall):
    """A bug in the state that a token finds: subclasses change it in `entering` and `kept`."""

    needs = "decode"
    functions = SCAN[1:]

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(state: torch.Tensor, *rest: Any, **named: Any) -> Any:
            state.copy_(self.entering(state))
            out = original(state, *rest, **named)
            state.copy_(self.kept(state))
            return out

        return step

    def entering(self, state: torch.Tensor) -> torch.Tensor:
        """The state [B, H, P, N] before the step."""
        return state

    def kept(self, state: torch.Tensor) -> torch.Tensor:
        """The state [B, H, P, N] after the step."""
        return state


class StateReset(_StepByStep, id="scan.state_reset"):
    """The state is empty at every token of decode."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.scan.core",
        remedy="keep the state between tokens",
    )

    def entering(self, state: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(state)


class StateLowPrecision(_StepByStep, id="scan.state_low_precision"):
    """The state is kept in bfloat16."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on, growing with position",
        first_tap="layers.0.scan.core",
        remedy="keep the state in float32",
    )

    def kept(self, state: torch.Tensor) -> torch.Tensor:
        return rounded(state)


class StateOfHeadsRolled(_StepByStep, id="scan.state_heads_rolled"):
    """Each head finds the state of its neighbour."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.scan.core",
        remedy="the state is [heads, head size, state size]",
    )

    def entering(self, state: torch.Tensor) -> torch.Tensor:
        return state.roll(1, 1)


class ChunkStateLost(WrongScanCall, id="scan.chunk_state_lost"):
    """A prompt that is read in pieces begins each piece with an empty state."""

    record = Record(
        shows="one pass exact, pieces wrong after the first",
        first_tap="layers.0.scan.core",
        remedy="begin a piece with the state of the one before",
        needs="chunked prefill",
        seen_in=("transformers #46741",),
    )
    functions = SCAN[:1]

    def instead_of(self, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def scan(*args: Any, **named: Any) -> Any:
            return original(*args, **{**named, "initial_states": None})

        return scan
