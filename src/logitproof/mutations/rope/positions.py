"""Positions that are counted wrongly, of all or of the keys alone; the mask keeps the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.rope._function import Pair, rotary_class, rotary_embedding
from logitproof.mutations.rope._tables import WrongPositions, is_recomputed
from logitproof.reference.parts import function_names
from logitproof.reference.patches import attributes_replaced, functions_replaced
from logitproof.reference.rotations import in_pairs


class NotAdvancedInPrefill(WrongPositions, id="rope.not_advanced_in_prefill"):
    """Positions do not advance within a pass of several tokens, as if they were fed one by one."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; prefill differs from token by token, which is exact",
        first_tap="layers.0.attn.q_rope",
        remedy="give each token of a batched prefill its own position",
        seen_in=("1bit-MONSTER #2052",),
    )

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        return right[..., :1].expand_as(right)


class RestartedInEachChunk(WrongPositions, id="rope.restarted_in_each_chunk"):
    """Positions restart at 0 in each chunk of a chunked prefill."""

    record = Record(
        shows="the first chunk exact, every later one wrong",
        first_tap="layers.0.attn.q_rope",
        remedy="add the number of tokens in the cache to the positions of a chunk",
        needs="chunked prefill",
        seen_in=("transformers #43082",),
    )

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        return right - right[..., :1] if right.shape[-1] > 1 else right


class Offset(WrongPositions, id="rope.offset"):
    """Positions begin at 1 instead of 0, in the prompt and in decode."""

    record = Record(
        shows="nothing: RoPE knows only differences of positions",
        first_tap="layers.0.attn.q_rope",
        remedy="count positions from 0, so that absolute positions and ALiBi stay right",
        equivalent=(
            "q R(m+1) and k R(n+1) have the product q R(m-n) k for every m and n, since R(a) R(b)' = R(a-b); the "
            "mask, the window and the cache keep their own positions, so no score changes beyond rounding"
        ),
        seen_in=("imp M19",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose table does not depend on the last position, for which the proof holds."""
        return super().applies(config) and not is_recomputed(config)

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        return right + 1


class Multiplied(WrongPositions, id="rope.positions_multiplied"):
    """Positions are multiplied by a number: linear scaling invented, inverted, or positions that are counted twice."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing smoothly with position",
        first_tap="layers.0.attn.q_rope",
        remedy="rotate by the position itself; scale it only as the model's rope_parameters say, and once",
    )
    factor: float = swept(2.0, grid=(2.0, 0.5, 0.25, 0.125, 4.0, 8.0), between=(0.02, 50.0))

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        return right * self.factor


class OffsetInDecode(WrongPositions, id="rope.offset_in_decode"):
    """The position of a token that is decoded through the cache is one too large; the prompt is right."""

    record = Record(
        shows="prefill exact; in decode every token is one too far from the prompt",
        first_tap="layers.0.attn.q_rope",
        remedy="the position of the next token is the number of tokens in the cache, not one more",
        needs="decode",
        seen_in=("imp M19",),
    )

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        return right + (right > 0).to(right.dtype) if right.shape[-1] == 1 else right


class _KeysElsewhere(Mutation):
    """Keys are rotated at another position than the queries of the same token: subclasses say at which."""

    def applies(self, config: Any) -> bool:
        """Models that rotate Q and K by a table that does not depend on the last position."""
        return rotary_class(config) is not None and not is_recomputed(config)

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        """Ask the table for two positions, and turn the keys by the second."""
        module, tables = rotary_embedding(model), dict[int, Any]()
        right = module.forward

        def forward(x: torch.Tensor, position_ids: torch.Tensor, *rest: Any, **named: Any) -> Any:
            table, moved = (right(x, places, *rest, **named) for places in (position_ids, self.places(position_ids)))
            # by the tensor that a layer is handed: the two are asked for anew in every pass
            tables[table[0].data_ptr()] = moved
            return table

        def rotate(turn: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
            if cos.data_ptr() not in tables:
                raise RuntimeError("the table was made before the bug was planted: it is no bug of one layer alone")
            return turn(q, k, cos, sin)[0], turn(q, k, *tables[cos.data_ptr()])[1]

        names = function_names(model.config)
        with ExitStack() as stack:
            stack.enter_context(attributes_replaced([(module, "forward", forward)]))
            stack.enter_context(functions_replaced(model, "Attention", names, lambda original: in_pairs(original, rotate)))
            yield

    def places(self, right: torch.Tensor) -> torch.Tensor:
        """The positions [..., T] of the keys for those of one pass."""
        raise NotImplementedError


class KeysOffset(_KeysElsewhere, id="rope.keys_offset"):
    """Keys are rotated one position off from the queries: the two count from different numbers."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, large at once",
        first_tap="layers.0.attn.k_rope",
        remedy="rotate Q and K of a token by the same position, also where one of them is rotated in the cache's kernel",
        seen_in=("hipfire #391", "RobertCsordas/moeut #6"),
    )
    offset: int = swept(1, grid=(1, -1))

    def places(self, right: torch.Tensor) -> torch.Tensor:
        return right + self.offset


class KeysOffsetInDecode(_KeysElsewhere, id="rope.keys_offset_in_decode"):
    """The key of a token that is decoded through the cache is stored rotated one position too far; the prompt is right."""

    record = Record(
        shows="prefill exact; in decode wrong from the second step on",
        first_tap="layers.0.cache.k",
        remedy="rotate K of a step by the number of tokens in the cache before it is written, as Q is",
        needs="decode",
        seen_in=("hipfire #391", "VeloxQuant-MLX #138"),
    )

    def places(self, right: torch.Tensor) -> torch.Tensor:
        return right + (right > 0).to(right.dtype) if right.shape[-1] == 1 else right


class Positions(WrongPositions, id="rope.low_precision.positions"):
    """Position ids are rounded to bfloat16: exact up to 256, then every second one, and so on."""

    record = Record(
        shows="exact up to position 256, then in steps that grow with position",
        first_tap="layers.0.attn.q_rope",
        remedy="keep position ids in an integer type",
        needs="more than 256 positions",
        seen_in=("NxDI guide", "Automodel pitfalls 5"),
    )

    def positions(self, right: torch.Tensor) -> torch.Tensor:
        """Eight significant bits."""
        return rounded(right.float()).to(right.dtype)
