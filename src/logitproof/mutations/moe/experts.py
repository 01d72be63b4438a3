"""The experts themselves: their order, their weights, the shared one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._tensors import Change, SpoiltTensors, WrongTensors
from logitproof.mutations.moe._router import Routed, WrongRoute
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed


class _WrongSharedGate(Mutation):
    """A bug in the gate of the shared expert."""

    def applies(self, config: Any) -> bool:
        """Models that have one."""
        return bool(self.gates(parts.skeleton(config)))

    def gates(self, model: Any) -> list[nn.Linear]:
        """The gate of every layer."""
        return parts.projections(model, "shared_expert_gate")


class ExpertsShifted(WrongRoute, id="moe.experts_shifted"):
    """Expert weights are shifted by one place, as after an off-by-one in the loader."""

    record = Record(
        shows="wrong experts with right weights, at every position",
        first_tap="layers.0.moe.index",
        remedy="count experts from zero",
        seen_in=("imp #58",),
    )
    by: int = swept(1, grid=(1, -1))

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        return weights, (index + self.by) % router.num_experts


class ExpertsReversed(WrongRoute, id="moe.experts_reversed"):
    """Experts are stored in reverse order."""

    record = Record(
        shows="wrong experts with right weights, at every position",
        first_tap="layers.0.moe.index",
        remedy="keep the order of the experts from the checkpoint",
        seen_in=("imp #58",),
    )

    def route(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> Routed:
        return weights, router.num_experts - 1 - index


class OneExpertDead(WrongRoute, id="moe.one_expert_dead"):
    """One expert is not computed: its output is lost."""

    record = Record(
        shows="only tokens routed to that expert",
        first_tap="layers.0.moe.weights",
        remedy="run every expert of the checkpoint",
    )
    expert: int = 0

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every expert."""
        names = ("num_experts", "num_local_experts", "n_routed_experts")
        count = next((getattr(config, name) for name in names if getattr(config, name, None)), 0)
        yield from ({"expert": expert} for expert in range(count))

    def weighted(self, router: Any, logits: torch.Tensor, weights: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return weights.masked_fill(index == self.expert, 0.0)


@dataclass
class _TwoExperts(WrongTensors):
    """The weights of two experts of one layer, or with -1 of all: subclasses say in `loaded` what the rows of each are."""

    expert: int = 0
    partner: int = 1
    layer: int = -1

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every two experts, of all layers and of each."""
        model = parts.skeleton(config)
        count = max((len(experts.down_proj) for experts in parts.experts(model)), default=0)
        pairs = [(expert, partner) for expert in range(count) for partner in range(count) if expert != partner]
        for layer in (-1, *range(len(parts.layers(model)))):
            yield from ({"expert": expert, "partner": partner, "layer": layer} for expert, partner in pairs)

    def changes(self, model: Any) -> list[Change]:
        """Both matrices of the experts."""
        layers = parts.layers(model) if self.layer < 0 else [parts.layers(model)[self.layer]]
        every = [experts for layer in layers for experts in parts.experts(layer)]
        kept = [experts for experts in every if max(self.expert, self.partner) < len(experts.down_proj)]
        matrices = [matrix for experts in kept for matrix in (experts.gate_up_proj, experts.down_proj)]
        return [(matrix, self.loaded(matrix.data)) for matrix in matrices]

    def loaded(self, right: torch.Tensor) -> torch.Tensor:
        """The wrong matrices [X, ...] for the right ones."""
        raise NotImplementedError


class ExpertOfAnother(_TwoExperts, id="moe.expert_of_another"):
    """One expert has the weights of another: a slot of the cache of experts, or of a rank, that was not filled anew."""

    record = Record(
        shows="only tokens routed to that expert",
        first_tap="layers.0.moe.out",
        remedy="see which expert a slot holds before it is used",
        seen_in=("ktransformers #2210",),
    )

    def loaded(self, right: torch.Tensor) -> torch.Tensor:
        wrong = right.clone()
        wrong[self.expert] = right[self.partner]
        return wrong


class TwoExpertsExchanged(_TwoExperts, id="moe.two_experts_exchanged"):
    """Two experts are in each other's place."""

    record = Record(
        shows="only tokens routed to one of the two",
        first_tap="layers.0.moe.out",
        remedy="apply the map of experts to slots where weights are loaded and where tokens are sent",
        seen_in=("ktransformers #2210",),
    )

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Each pair once."""
        yield from (place for place in super().instances(config, token_ids) if place["expert"] < place["partner"])

    def loaded(self, right: torch.Tensor) -> torch.Tensor:
        wrong = right.clone()
        wrong[[self.expert, self.partner]] = right[[self.partner, self.expert]]
        return wrong


class WeightsOnInput(Mutation, id="moe.weights_on_input"):
    """The router's weight multiplies the expert's input instead of its output."""

    record = Record(
        shows="wrong at every position, because the expert is not linear",
        first_tap="layers.0.moe.out",
        remedy="multiply the expert's output by its weight, unless the family means the input",
        seen_in=("labmlai/annotated_deep_learning_paper_implementations #95",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose experts are gated by an activation."""
        return bool(_weighted(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of every layer's experts."""
        return attributes_replaced([(gated, "forward", functools.partial(_forward, gated)) for gated in _weighted(model)])


class GateUpSwapped(SpoiltTensors, id="moe.gate_up_swapped"):
    """The experts' gate and up are exchanged."""

    record = Record(
        shows="MoE outputs wrong, at every position",
        first_tap="layers.0.moe.out",
        remedy="store gate first, up second, as the fused tensor means",
        seen_in=("imp #58",),
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        """The tensors [X, 2F, E] of gate, then up."""
        return [experts.gate_up_proj for experts in _weighted(model)]

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return torch.cat(right.chunk(2, dim=1)[::-1], dim=1)


class SharedExpertMissing(Mutation, id="moe.shared_expert_missing"):
    """The shared expert, which every token uses, is left out."""

    record = Record(
        shows="MoE outputs lack one term, at every position",
        first_tap="layers.0.moe.shared",
        remedy="add the shared expert's output",
        seen_in=("pegainfer",),
    )

    def applies(self, config: Any) -> bool:
        """Models that have one."""
        return bool(_shared(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Let it give nothing."""
        return outputs_changed(_shared(model), lambda module, inputs, output: torch.zeros_like(output))


class SharedGateMissing(_WrongSharedGate, id="moe.shared_gate_missing"):
    """The shared expert's gate is left out."""

    record = Record(
        shows="the shared expert's output too large, at every position",
        first_tap="layers.0.moe.out",
        remedy="multiply the shared expert by the sigmoid of its gate",
        seen_in=("pegainfer",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Let every gate's sigmoid be one."""
        return outputs_changed(self.gates(model), lambda module, inputs, output: torch.full_like(output, torch.inf))


class SharedGateRaw(_WrongSharedGate, id="moe.shared_gate_raw"):
    """The shared expert's gate is used without its sigmoid."""

    record = Record(
        shows="the shared expert's output of wrong size and sign, at every position",
        first_tap="layers.0.moe.out",
        remedy="take the sigmoid of the shared expert's gate",
        seen_in=("pegainfer",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of every block that has such a gate."""
        blocks = [block for block in model.modules() if "shared_expert_gate" in block._modules]
        return attributes_replaced([(block, "forward", functools.partial(_raw, block)) for block in blocks])


def _weighted(model: Any) -> list[Any]:
    return [experts for experts in parts.experts(model) if parts.activation_name(experts)]


def _forward(experts: Any, x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """x [T, E], index and weights [T, k]."""
    out = torch.zeros_like(x)
    for expert in index.unique():
        token, slot = torch.where(index == expert)
        scaled = x[token] * weights[token, slot, None].to(x.dtype)
        gate, up = functional.linear(scaled, experts.gate_up_proj[expert]).chunk(2, dim=-1)
        made = functional.linear(experts.act_fn(gate) * up, experts.down_proj[expert])
        out.index_add_(0, token, made.to(out.dtype))
    return out


def _shared(model: Any) -> list[Any]:
    names = ("shared_expert", "shared_experts")
    return [module for name, module in model.named_modules() if name.rpartition(".")[2] in names]


def _raw(block: Any, hidden: torch.Tensor) -> torch.Tensor:
    """hidden [B, T, E]."""
    x = hidden.view(-1, hidden.shape[-1])
    _, weights, index = block.gate(x)
    made = block.experts(x, index, weights) + block.shared_expert_gate(x) * block.shared_expert(x)
    return torch.as_tensor(made.reshape(hidden.shape))
