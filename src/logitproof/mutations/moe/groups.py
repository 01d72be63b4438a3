"""Routing by groups, by corrections, by capacity, and what is done to the shared expert beside it."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._tensors import ZeroTensors
from logitproof.mutations.moe._router import Routed, WrongRoute, scaled
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed


class _WrongGroups(WrongRoute):
    """Experts of other groups than those whose best two are best: subclasses say in `worth` what a group is worth."""

    def applies(self, config: Any) -> bool:
        """Routers that choose among some of their groups."""
        routers = parts.routers(parts.skeleton(config))
        return any(getattr(router, "num_group", 1) > getattr(router, "topk_group", 1) for router in routers)

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        right = logits.float().sigmoid()
        ranked = right + router.e_score_correction_bias
        groups = self.grouped(ranked, router.num_group)
        best = self.worth(groups, self.grouped(right, router.num_group)).topk(router.topk_group, -1).indices
        open_ = torch.zeros(groups.shape[:2], dtype=torch.bool).scatter(1, best, True)[..., None].expand_as(groups)
        masked = self.ungrouped(groups.masked_fill(~open_, -torch.inf))
        chosen = masked.topk(router.top_k, -1).indices
        return scaled(router, right.gather(1, chosen)), chosen

    def grouped(self, values: torch.Tensor, count: int) -> torch.Tensor:
        """[T, G, X / G] of [T, X]."""
        return values.unflatten(-1, (count, -1))

    def ungrouped(self, values: torch.Tensor) -> torch.Tensor:
        """[T, X] of [T, G, X / G]."""
        return values.flatten(-2)

    def worth(self, groups: torch.Tensor, uncorrected: torch.Tensor) -> torch.Tensor:
        """[T, G]: the two best of each group together."""
        return groups.topk(2, -1).values.sum(-1)


class GroupsByBest(_WrongGroups, id="moe.groups_by_their_best"):
    """Groups are chosen by their best expert and not by their two best together."""

    record = Record(
        shows="discrete: other experts at some positions",
        first_tap="layers.0.moe.index",
        remedy="add the two highest corrected scores of each group",
        seen_in=("vLLM #13474", "Megatron-LM #1378"),
    )

    def worth(self, groups: torch.Tensor, uncorrected: torch.Tensor) -> torch.Tensor:
        return groups.max(-1).values


class GroupsBySum(_WrongGroups, id="moe.groups_by_their_sum"):
    """Groups are chosen by the sum of all of their experts."""

    record = Record(
        shows="discrete: other experts at some positions",
        first_tap="layers.0.moe.index",
        remedy="add the two highest corrected scores of each group",
    )

    def worth(self, groups: torch.Tensor, uncorrected: torch.Tensor) -> torch.Tensor:
        return -groups.topk(2, -1, largest=False).values.sum(-1)


class GroupsWithoutCorrection(_WrongGroups, id="moe.groups_without_correction"):
    """Groups are chosen by the scores without their correction; experts inside of them by those with it."""

    record = Record(
        shows="discrete: other experts at some positions",
        first_tap="layers.0.moe.index",
        remedy="choose groups by the corrected scores too",
    )

    def worth(self, groups: torch.Tensor, uncorrected: torch.Tensor) -> torch.Tensor:
        return uncorrected.topk(2, -1).values.sum(-1)


class GroupsInterleaved(_WrongGroups, id="moe.groups_interleaved"):
    """Experts are dealt out over the groups in turn: expert x belongs to group x modulo the number of groups."""

    record = Record(
        shows="discrete: other experts at some positions",
        first_tap="layers.0.moe.index",
        remedy="a group is a run of neighbouring experts",
    )

    def grouped(self, values: torch.Tensor, count: int) -> torch.Tensor:
        return values.unflatten(-1, (-1, count)).mT

    def ungrouped(self, values: torch.Tensor) -> torch.Tensor:
        return values.mT.flatten(-2)


class CorrectionInLogits(WrongRoute, id="moe.correction_bias_before_sigmoid"):
    """The correction is added to the logits, before the sigmoid, and so is in the choice and in the weights."""

    record = Record(
        shows="every position with experts",
        first_tap="layers.0.moe.weights",
        remedy="add the correction to the sigmoids, for the choice alone",
    )

    def applies(self, config: Any) -> bool:
        """Sigmoid routers that hold their correction."""
        return any(hasattr(router, "e_score_correction_bias") for router in parts.routers(parts.skeleton(config)))

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        moved = (logits.float() + router.e_score_correction_bias).sigmoid()
        return scaled(router, moved.gather(1, index))


class CorrectionNotLoaded(ZeroTensors, id="moe.correction_bias_not_loaded"):
    """The correction that a router is given, or keeps apart from its matrix, is not loaded."""

    record = Record(
        shows="discrete: other experts where scores are close",
        first_tap="layers.0.moe.index",
        remedy="load e_score_correction_bias",
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        named = [*model.named_parameters(), *model.named_buffers()]
        own = {
            id(router.e_score_correction_bias) for router in parts.routers(model) if hasattr(router, "e_score_correction_bias")
        }
        return [tensor for name, tensor in named if name.endswith("e_score_correction_bias") and id(tensor) not in own]


class CorrectedShares(WrongRoute, id="moe.softmax_correction_in_weights"):
    """The correction of a softmax router is left in the weights and not only in the choice."""

    record = Record(
        shows="every position with experts",
        first_tap="layers.0.moe.weights",
        remedy="take the weights from the softmax without correction",
        seen_in=("vLLM-metax #270",),
    )

    def applies(self, config: Any) -> bool:
        """Softmax routers with a correction."""
        return any(hasattr(router, "moe_statics") for router in parts.routers(parts.skeleton(config)))

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        moved = router.moe_statics(logits.float().softmax(-1)).gather(1, index)
        return moved / moved.sum(-1, keepdim=True)


class NormalizedOverAll(WrongRoute, id="moe.normalized_over_all"):
    """Sigmoids are divided by the sum over all experts and not over the chosen ones."""

    record = Record(
        shows="every position with experts",
        first_tap="layers.0.moe.weights",
        remedy="divide by the sum over the chosen experts",
    )

    def applies(self, config: Any) -> bool:
        """Sigmoid routers that normalize."""
        routers = parts.routers(parts.skeleton(config))
        return any(hasattr(router, "e_score_correction_bias") and router.norm_topk_prob for router in routers)

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        right = logits.float().sigmoid()
        return right.gather(1, index) / right.sum(-1, keepdim=True) * router.routed_scaling_factor


class Capacity(WrongRoute, id="moe.capacity"):
    """An expert takes as many tokens as fall to it on average, as in training, and drops the others."""

    record = Record(shows="later positions lack experts", first_tap="layers.0.moe.weights", remedy="drop no token in inference")
    factor: float = swept(1.0, grid=(1.0, 1.25), between=(0.3, 2.0))

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        room = max(1, int(self.factor * index.numel() / logits.shape[-1]))
        taken = torch.nn.functional.one_hot(index, logits.shape[-1]).sum(1).cumsum(0)
        return weights * (taken.gather(1, index) <= room)


class _WrongShared(Mutation):
    """What becomes of the output of the shared experts: said in `factor`."""

    def applies(self, config: Any) -> bool:
        """Models for whose shared experts it is another."""
        return bool(list(self._shared(parts.skeleton(config)))) and self.factor(config) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Multiply what they give."""
        return outputs_changed(self._shared(model), lambda module, _, out: out * self.factor(model.config))

    def factor(self, config: Any) -> float:
        """What it is multiplied by."""
        raise NotImplementedError

    def _shared(self, model: Any) -> Iterable[Any]:
        return [module for name, module in model.named_modules() if name.endswith(".shared_experts")]


class SharedScaled(_WrongShared, id="moe.routed_scaling_of_shared"):
    """The factor of the routed experts multiplies the shared one too."""

    record = Record(shows="every position with experts", first_tap="layers.0.moe.shared", remedy="scale the routed part alone")

    def factor(self, config: Any) -> float:
        return float(getattr(config, "routed_scaling_factor", 1.0))


class SharedAveraged(_WrongShared, id="moe.shared_experts_averaged"):
    """Shared experts, which are stored as one of several times the width, are averaged and not added."""

    record = Record(
        shows="every position with experts", first_tap="layers.0.moe.shared", remedy="the shared experts' outputs are added"
    )

    def factor(self, config: Any) -> float:
        count = getattr(config, "n_shared_experts", None) or getattr(config, "moe_num_shared_experts", None) or 1
        return 1.0 / int(count)


class _WrongInputWeights(Mutation):
    """Families whose weights multiply an expert's input: said in `forward`."""

    def applies(self, config: Any) -> bool:
        """Llama 4."""
        return bool(self._blocks(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of every block of experts."""
        return attributes_replaced(
            [(block, "forward", functools.partial(self.forward, block)) for block in self._blocks(model)]
        )

    def forward(self, block: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's output [T, E] and the router's logits."""
        raise NotImplementedError

    def _blocks(self, model: Any) -> list[Any]:
        return [module for module in model.modules() if type(module).__name__ == "Llama4TextMoe"]

    def _through(self, block: Any, inputs: torch.Tensor) -> torch.Tensor:
        """Every expert's output [X, T, E] for inputs [X, T, E]."""
        return block.experts(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])


class WeightsOnOutput(_WrongInputWeights, id="moe.input_weights_on_output"):
    """Weights that belong to an expert's input multiply its output."""

    record = Record(
        shows="every position with experts",
        first_tap="layers.0.moe.out",
        remedy="multiply the input of the expert",
        seen_in=("sglang #7889", "llm-compressor #1907"),
    )

    def forward(self, block: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = hidden_states.flatten(0, -2)
        weights, logits = block.router(x)
        out = self._through(block, x.expand(block.num_experts, *x.shape)) * weights.T[..., None]
        return block.shared_expert(x) + out.sum(0), logits


class SoftmaxOnInput(_WrongInputWeights, id="moe.input_weights_softmax"):
    """The weights of an expert's input are a softmax over all experts in place of a sigmoid."""

    record = Record(
        shows="every position with experts",
        first_tap="layers.0.moe.weights",
        remedy="take the sigmoid of the chosen expert's logit",
    )

    def forward(self, block: Any, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = hidden_states.flatten(0, -2)
        weights, logits = block.router(x)
        shares = logits.softmax(-1) * (weights > 0)
        return block.shared_expert(x) + self._through(block, x[None] * shares.T[..., None]).sum(0), logits
