"""Single tensors: not loaded, loaded without what belongs to them, cut, added too often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._tensors import SpoiltTensors, ZeroTensors
from logitproof.reference import parts
from logitproof.reference.adapter import MATRICES, RANK, SCALE, adapted
from logitproof.reference.patches import attributes_replaced, tensors_replaced


@dataclass
class _OneTensor(SpoiltTensors):
    """One tensor of one layer."""

    tensor: str = swept(
        "v_proj.weight",
        grid=("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "up_proj.weight", "down_proj.weight"),
    )
    layer: int = swept(0, grid=(0, 1))

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every tensor of the grid in every layer that the grid has not."""
        known = type(self).grid
        layers = [layer for layer in range(config.num_hidden_layers) if layer not in known["layer"]]
        default = [(tensor, layer) for tensor in known["tensor"] for layer in known["layer"]]
        for tensor, layer in [*default, *((tensor, layer) for tensor in known["tensor"] for layer in layers)]:
            yield {"tensor": tensor, "layer": layer}

    def affected(self, model: Any) -> list[torch.Tensor]:
        """The tensor, where the layer has it."""
        return [parameter for _, parameter in parts.parameters(model, self.tensor, self.layer)]


class TensorDropped(_OneTensor, ZeroTensors, id="weights.tensor_dropped"):
    """One tensor is not loaded and is zero."""

    record = Record(
        shows="exact before its layer, wrong from there on",
        first_tap="layers.0.attn.v_proj",
        remedy="refuse to run with a tensor missing",
        seen_in=("paiml #231", "vllm-gguf-plugin #103"),
    )


class TensorLeftInitial(_OneTensor, id="weights.tensor_left_initial"):
    """One tensor is not loaded and keeps its random initial values."""

    record = Record(
        shows="exact before its layer, wrong from there on; may differ from run to run",
        first_tap="layers.0.attn.v_proj",
        remedy="refuse to run with a tensor missing",
        seen_in=("paiml #231", "transformers #43429"),
    )
    seed: int = 0

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(right.shape, generator=generator).to(right.device) * 0.02


class TensorUnscaled(_OneTensor, id="weights.tensor_unscaled"):
    """One quantized tensor is used without its block scales: the codes of its Q8_0 blocks are the weights."""

    record = Record(
        shows="exact before its layer, then huge activations",
        first_tap="layers.0.attn.v_proj",
        remedy="multiply every block by its scale",
        seen_in=("paiml #231", "flashinfer #3398"),
    )

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        """The int8 codes of Q8_0 as numbers; the last block of a row may be short."""
        blocks = functional.pad(right, (0, -right.shape[-1] % 32)).unflatten(-1, (-1, 32))
        scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
        return (blocks / scale).round().flatten(-2)[..., : right.shape[-1]]


class BiasDropped(ZeroTensors, id="weights.bias_dropped"):
    """The biases of linear modules are not loaded."""

    record = Record(
        shows="large from the first layer on, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="load every bias of the checkpoint; refuse unused tensors",
        seen_in=("ANEForge #253", "Fast-LLM #398"),
    )
    projection: str = swept("", grid=("", "q_proj", "k_proj", "v_proj", "o_proj", "down_proj"))

    def affected(self, model: Any) -> list[torch.Tensor]:
        named = [(name.rpartition(".")[2], linear) for name, linear in parts.linears(model)]
        return [linear.bias for leaf, linear in named if linear.bias is not None and self.projection in ("", leaf)]


class BiasPerRank(SpoiltTensors, id="weights.bias_per_rank"):
    """Every rank adds the bias of a row-parallel projection before the sum over ranks."""

    record = Record(
        shows="the same error added at every position",
        first_tap="layers.0.attn.out",
        remedy="add the bias on one rank only",
        seen_in=("TGI #1036",),
    )
    ranks: int = swept(2, grid=(2, 4, 8))

    def affected(self, model: Any) -> list[torch.Tensor]:
        parallel = parts.projections(model, "o_proj") + parts.projections(model, "down_proj")
        return [linear.bias for linear in parallel if linear.bias is not None]

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right * self.ranks


class ColumnsDropped(SpoiltTensors, id="weights.columns_dropped"):
    """The last columns of a matrix are not multiplied: the kernel's loop over a row ends before the row does."""

    record = Record(
        shows="wrong every position, from the first layer on, by a few percent",
        first_tap="layers.0.mlp.out",
        remedy="run the kernel over the whole row, also the tail that fills no block",
        seen_in=("xinfer #467",),
    )
    projection: str = "down_proj"
    columns: int = swept(16, grid=(16, 32, 64))

    def applies(self, config: Any) -> bool:
        """Matrices with more columns than those."""
        return any(matrix.shape[1] > self.columns for matrix in self.affected(parts.skeleton(config)))

    def affected(self, model: Any) -> list[torch.Tensor]:
        return [linear.weight for linear in parts.projections(model, self.projection)]

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        kept = right.clone()
        kept[:, -self.columns :] = 0
        return kept


class Bf16Truncated(SpoiltTensors, id="weights.bf16_truncated"):
    """Float32 weights are cut to bfloat16 by dropping bits instead of rounding."""

    record = Record(
        shows="every weight slightly too small in size: a scale error, slow, growing with depth",
        first_tap="embedding",
        remedy="round to nearest even",
        seen_in=("1bit-MONSTER #640", "tt-metal #19882"),
    )

    def applies(self, config: Any) -> bool:
        """Checkpoints that are not in bfloat16 already."""
        return str(config.dtype) not in ("torch.bfloat16", "bfloat16")

    def affected(self, model: Any) -> list[torch.Tensor]:
        return list(model.parameters())

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        bits = right.float().contiguous().view(torch.int32)
        return (bits & -65536).view(torch.float32)


class TiedHeadIgnored(Mutation, id="weights.tied_head_ignored"):
    """A tied head is left with its initial random weights."""

    record = Record(
        shows="hidden states exact, logits gibberish",
        first_tap="logits",
        remedy="use the embedding as the head where tie_word_embeddings is true",
        seen_in=("transformers #43429", "vLLM #5621"),
    )
    seed: int = 0

    def applies(self, config: Any) -> bool:
        """Models with a tied head."""
        return parts.is_tied(parts.skeleton(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give the head weights of its own."""
        head = model.get_output_embeddings()
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.randn(head.weight.shape, generator=generator) * getattr(model.config, "initializer_range", 0.02)
        return attributes_replaced([(head, "weight", nn.Parameter(values.to(head.weight), requires_grad=False))])


class TiedHeadInvented(Mutation, id="weights.tied_head_invented"):
    """The embedding is used as the head of a model that has a head of its own."""

    record = Record(
        shows="hidden states exact, logits gibberish",
        first_tap="logits",
        remedy="load lm_head.weight where tie_word_embeddings is false",
        seen_in=("transformers #43429", "vLLM #5621"),
    )

    def applies(self, config: Any) -> bool:
        """Models with a head of its own."""
        return not parts.is_tied(parts.skeleton(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give the head the embedding's values."""
        values = model.get_input_embeddings().weight.data
        return tensors_replaced([(model.get_output_embeddings().weight, values)])


class _WrongAdapter(Mutation):
    """A bug in what a LoRA adapter adds: subclasses say in `scale` by what it is multiplied instead of its right scale."""

    needs = "adapter"
    first_tap = "layers.0.attn.q_proj"

    def applies(self, config: Any) -> bool:
        """Models that are computed with an adapter."""
        return bool(getattr(config, MATRICES, None))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Add each pair by another scale."""
        return attributes_replaced([(linear, SCALE, self.scale(name, linear)) for name, linear in adapted(model).items()])

    def scale(self, name: str, linear: Any) -> float:
        """The wrong scale of one matrix; the right one and the rank are its attributes."""
        raise NotImplementedError


class AdapterMissing(_WrongAdapter, id="weights.adapter_missing"):
    """The adapter is not applied: the base model answers."""

    record = Record(
        shows="the base model's logits",
        remedy="load the adapter, and refuse a request that names one which is not there",
        seen_in=("vLLM #34186", "vLLM #55193"),
    )

    def scale(self, name: str, linear: Any) -> float:
        return 0.0


class AdapterFactor(_WrongAdapter, id="weights.adapter_factor"):
    """What the adapter adds is multiplied by a number more: it is applied twice, or by the scale of another adapter."""

    record = Record(
        shows="the adapter's whole effect, stronger or weaker",
        remedy="merge an adapter or compute it beside the weights, not both; take each adapter's own alpha and rank",
        seen_in=("peft #2733", "FastVideo #870"),
    )
    factor: float = swept(2.0, grid=(2.0, 0.5), between=(0.01, 100.0))

    def scale(self, name: str, linear: Any) -> float:
        return self.factor * float(getattr(linear, SCALE))


class AdapterScale(_WrongAdapter, id="weights.adapter_scale"):
    """The adapter's scale is made of its alpha and rank by another formula: alpha, alpha / r, alpha / sqrt(r) or 1."""

    record = Record(
        shows="the adapter's whole effect, stronger or weaker, by matrix where ranks differ",
        remedy="alpha / r, or alpha / sqrt(r) where use_rslora is set, with the rank and alpha of each matrix",
        seen_in=("mlx-vlm #845", "TensorRT-LLM #1668"),
    )
    times: str = swept("r", grid=("r", "sqrt(r)", "1 / sqrt(r)", "1 / r", "1 / scale"))

    def scale(self, name: str, linear: Any) -> float:
        right, rank = float(getattr(linear, SCALE)), float(getattr(linear, RANK))
        powers = {"r": 1.0, "sqrt(r)": 0.5, "1 / sqrt(r)": -0.5, "1 / r": -1.0}
        return right * rank ** powers[self.times] if self.times in powers else 1.0


class AdapterLeftOut(_WrongAdapter, id="weights.adapter_left_out"):
    """The adapter is left out in one layer, in one kind of matrix, or in one matrix."""

    record = Record(
        shows="exact before the layer, wrong from there on; a part of the adapter's effect is missing",
        remedy="refuse an adapter of which a pair finds no matrix",
        seen_in=("vLLM #55193",),
    )
    layer: int = 0
    matrix: str = ""

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every layer, every kind of matrix, every matrix."""
        leaves = sorted({name.rpartition(".")[2] for name in getattr(config, MATRICES, None) or ()})
        layers = range(config.num_hidden_layers)
        yield from ({"layer": layer} for layer in layers)
        yield from ({"layer": -1, "matrix": leaf} for leaf in leaves)
        yield from ({"layer": layer, "matrix": leaf} for layer in layers for leaf in leaves)

    def scale(self, name: str, linear: Any) -> float:
        there = self.layer < 0 or f".layers.{self.layer}." in f".{name}."
        return 0.0 if there and self.matrix in ("", name.rpartition(".")[2]) else float(getattr(linear, SCALE))
