"""Rows and halves of matrices in another order than the one they are read in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._tensors import Change, SpoiltTensors, WrongTensors
from logitproof.reference import parts


class Transposed(SpoiltTensors, id="weights.transposed"):
    """A projection's matrix is stored in one order of axes and read in the other.

    A square one is transposed; one that is not square is scrambled.
    """

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="keep PyTorch's [out, in] order, and transpose Conv1D weights only",
        seen_in=("nntile #370", "aprender #155"),
    )
    projection: str = swept(
        "q_proj", grid=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj")
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        return [linear.weight for linear in parts.projections(model, self.projection)]

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        """The memory of the transposed matrix: a square one is transposed, any other scrambled."""
        return right.T.contiguous().view(right.shape)


class SidesExchanged(SpoiltTensors, id="weights.sides_exchanged"):
    """The right buffer of a matrix that is not square is read with its sides exchanged, and turned to fit.

    Every shape fits and no value lies where it should. `weights.transposed` is the other way: the transposed buffer read as the
    right one; of a square matrix the two are the same.
    """

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.attn.q_proj",
        remedy="read a matrix as [out, in], and transpose it by its strides where the kernel wants [in, out]",
        seen_in=("SKaiNET #1098", "larql #24"),
    )
    projection: str = swept("q_proj", grid=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))

    def affected(self, model: Any) -> list[torch.Tensor]:
        matrices = [linear.weight for linear in parts.projections(model, self.projection)]
        return [matrix for matrix in matrices if matrix.shape[0] != matrix.shape[1]]

    def spoilt(self, right: torch.Tensor) -> torch.Tensor:
        return right.contiguous().view(right.shape[::-1]).T.contiguous()


class GateUpSwapped(WrongTensors, id="weights.gate_up_swapped"):
    """Gate and up of the dense MLP are exchanged."""

    record = Record(
        shows="the MLP's output wrong, every position, from the first layer on",
        first_tap="layers.0.mlp.gate",
        remedy="load gate_proj as the activated one; fused tensors hold gate first",
        seen_in=("quack #133",),
        exchanges=("mlp.gate", "mlp.up"),
    )

    def changes(self, model: Any) -> Iterator[Change]:
        for mlp in parts.gated_mlps(model):
            if "gate_proj" in mlp._modules:
                yield mlp.gate_proj.weight, mlp.up_proj.weight.data
                yield mlp.up_proj.weight, mlp.gate_proj.weight.data
            elif "gate_up_proj" in mlp._modules:
                yield mlp.gate_up_proj.weight, torch.cat(mlp.gate_up_proj.weight.data.chunk(2)[::-1])


class FusedGateUpInterleaved(WrongTensors, id="weights.fused_gate_up_interleaved"):
    """The fused gate_up tensor is split by alternating rows instead of halves, or (GPT-OSS) the reverse."""

    record = Record(
        shows="the MLP's output gibberish, every position, from the first layer on",
        first_tap="layers.0.moe.out",
        remedy="split gate_up_proj as the family stores it",
        seen_in=("quack #133",),
    )

    def changes(self, model: Any) -> Iterator[Change]:
        for mlp in model.modules():
            if "gate_up_proj" in mlp._modules:
                yield mlp.gate_up_proj.weight, _concatenated(mlp.gate_up_proj.weight.data, 0)
        for experts in parts.experts(model):
            if parts.activation_name(experts):
                yield experts.gate_up_proj, _concatenated(experts.gate_up_proj.data, 1)
            else:
                for tensor in (experts.gate_up_proj, experts.gate_up_proj_bias):
                    yield tensor, torch.stack(tensor.data.chunk(2, dim=-1), dim=-1).flatten(-2)


class FusedQkvOrder(WrongTensors, id="weights.fused_qkv_order"):
    """The fused projection of Q, K and V is split in the wrong order."""

    record = Record(
        shows="gibberish, every position, from the first layer on",
        first_tap="layers.0.linear_attn.qkv",
        remedy="split qkv as the family stores it: Q, K, V, each with all of its heads",
        seen_in=("nnsight #719", "quack #133"),
    )
    order: Literal["kqv", "qvk", "vkq", "by_group"] = swept("qvk", grid=("kqv", "qvk", "vkq", "by_group"))

    def changes(self, model: Any) -> Iterator[Change]:
        config = model.config
        for linear in parts.projections(model, "qkv_proj"):
            size = linear.out_features // (config.num_attention_heads + 2 * config.num_key_value_heads)
            q, k = config.num_attention_heads * size, config.num_key_value_heads * size
            yield linear.weight, self._read(linear.weight.data, (q, k, k), config.num_key_value_heads)
        for net in parts.delta_nets(model):
            if "in_proj_qkv" in net._modules:
                sizes = (net.key_dim, net.key_dim, net.value_dim)
                yield net.in_proj_qkv.weight, self._read(net.in_proj_qkv.weight.data, sizes, net.num_k_heads)

    def _read(self, rows: torch.Tensor, sizes: tuple[int, int, int], groups: int) -> torch.Tensor:
        """Rows [q + k + v, E] as a reader of the wrong order takes them, put as Q, K, V."""
        if self.order == "by_group":
            grouped = rows.reshape(groups, -1, rows.shape[-1]).split([size // groups for size in sizes], dim=1)
            return torch.cat([part.flatten(0, 1) for part in grouped])
        named = dict(zip("qkv", sizes, strict=True))
        read = dict(zip(self.order, rows.split([named[letter] for letter in self.order]), strict=True))
        return torch.cat([read[letter] for letter in "qkv"])


def _concatenated(rows: torch.Tensor, axis: int) -> torch.Tensor:
    """What a reader of alternating rows takes for gate, then what it takes for up."""
    order = torch.arange(rows.shape[axis], device=rows.device)
    return rows.index_select(axis, torch.cat((order[0::2], order[1::2])))
