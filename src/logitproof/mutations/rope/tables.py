"""The table of angles, made from the wrong base, kind of layer, exponents, sections or type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.rope._function import Pair, WrongRotation, head_size, rotary_class, rotary_embedding
from logitproof.mutations.rope._tables import (
    Parameters,
    WrongFrequencies,
    WrongParameters,
    angles_replaced,
    is_plain,
    is_recomputed,
)
from logitproof.reference.patches import attributes_replaced


class Base(WrongParameters, id="rope.base"):
    """RoPE turns by the frequencies of another base (theta) than the model's."""

    record = Record(
        shows=(
            "position 0 exact, wrong from position 1 on, growing smoothly with position; the slow dimensions of Q and "
            "K are wrong most"
        ),
        first_tap="layers.0.attn.q_rope",
        remedy=(
            "read rope_theta from rope_parameters as well as from the top of the config, and refuse a config that has neither"
        ),
        seen_in=("litgpt #2217", "ANEForge #206", "Modular #8"),
    )
    base: float = swept(1e4, grid=(1e4, 1e5, 5e5, 1e6, 1e7), between=(1e3, 1e8))

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        return right | {"rope_theta": self.base}


class LocalGlobalSwapped(WrongParameters, id="rope.local_global_swapped"):
    """The RoPE parameters of layers with a window and of those without are swapped."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, in the pattern of the layer kinds",
        first_tap="layers.0.attn.q_rope",
        remedy="take RoPE's parameters by the kind of the layer, not by the order in the config",
        seen_in=("atlas #276",),
    )

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        if set(right) != {"full_attention", "sliding_attention"}:
            return None
        return {"full_attention": right["sliding_attention"], "sliding_attention": right["full_attention"]}


class OneBaseForAllLayers(WrongParameters, id="rope.one_base_for_all_layers"):
    """Layers with a sliding window rotate by the base and scaling of the layers that see everything."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; only the layers with a window are wrong",
        first_tap="layers.0.attn.q_rope",
        remedy="take RoPE's parameters by the kind of the layer",
        seen_in=("llama.cpp #14367",),
    )

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        if "full_attention" not in right:
            return None
        return dict.fromkeys(right, right["full_attention"])


class _BaseOfOneKind(WrongParameters):
    """Layers of one kind rotate by another base (theta) than the model's: subclasses name the kind.

    A base that is written into the code is right for the models that it was written for.
    """

    kind: ClassVar[str]
    base: float

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        if self.kind not in right or len(right) < 2:
            return None
        return right | {self.kind: right[self.kind] | {"rope_theta": self.base}}


class BaseOfGlobalLayers(_BaseOfOneKind, id="rope.base_of_global_layers"):
    """Layers that see everything rotate by another base (theta) than the model's, those with a window by theirs."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing smoothly; only the layers without a window are wrong",
        first_tap="layers.1.attn.q_rope",
        remedy="read the base of each kind of layer from rope_parameters; no base is a constant of the family",
        seen_in=("gemma.cpp #986",),
    )
    kind = "full_attention"
    base: float = swept(1e4, grid=(1e4, 1e5, 5e5, 1e6, 1e7), between=(1e3, 1e8))


class BaseOfWindowedLayers(_BaseOfOneKind, id="rope.base_of_windowed_layers"):
    """Layers with a sliding window rotate by another base (theta) than theirs, all others by the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing within the window; only the layers with a window are wrong",
        first_tap="layers.0.attn.q_rope",
        remedy="read the base of each kind of layer from rope_parameters (rope_local_base_freq in older configs)",
        seen_in=("gemma.cpp #986",),
    )
    kind = "sliding_attention"
    base: float = swept(1e5, grid=(1e4, 1e5, 5e5, 1e6, 1e7), between=(1e3, 1e8))


class HeadDimFromHidden(WrongFrequencies, id="rope.head_dim_from_hidden"):
    """RoPE's exponents are divided by hidden_size / num_attention_heads instead of head_dim."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position",
        first_tap="layers.0.attn.q_rope",
        remedy="read head_dim from the config; it is hidden_size / num_attention_heads only where it is absent",
        seen_in=("transformers #32495",),
    )

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """b^(-2i/R) with R as it would be in a head of E/H dimensions."""
        if not is_plain(config):
            return right
        return right ** (head_size(config) * config.num_attention_heads / config.hidden_size)


class InverseFrequency(WrongFrequencies, id="rope.inverse_frequency"):
    """RoPE turns by the inverse of the inverse frequencies: by position x base^(2i/D), not position / base^(2i/D)."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, large at once at position 1",
        first_tap="layers.0.attn.q_rope",
        remedy="pass inverse frequencies where they are asked for, and wavelengths where those are",
        seen_in=("mlx-lm #1189",),
    )

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        return 1 / right


class MropeSections(Mutation, id="rope.mrope_sections"):
    """The sections of M-RoPE (time, height, width) are concatenated instead of interleaved."""

    record = Record(
        shows="nothing for text; image tokens are wrong",
        first_tap="layers.0.attn.q_rope",
        remedy="interleave time, height and width frequencies where mrope_interleaved is set",
        equivalent=(
            "text tokens have the same position in time, height and width, so all three sections hold the same angles "
            "and any order of them gives one table"
        ),
        seen_in=("candle #3515", "verl-omni #254", "vllm.cpp #41"),
    )

    def applies(self, config: Any) -> bool:
        """Models that interleave sections."""
        return hasattr(rotary_class(config), "recomposition_frequencies")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Lay the sections one after the other."""
        module = rotary_embedding(model)
        sizes = list(module.mrope_section)

        def concatenated(table: torch.Tensor) -> torch.Tensor:
            parts = torch.split(table, [*sizes[:-1], table.shape[-1] - sum(sizes[:-1])], dim=-1)
            half = torch.cat([part[section] for section, part in enumerate(parts)], dim=-1)
            return torch.cat((half, half), dim=-1)

        return attributes_replaced([(module, "recomposition_frequencies", concatenated)])


class Frequencies(WrongFrequencies, id="rope.low_precision.frequencies"):
    """RoPE's inverse frequencies are rounded to bfloat16, as after a cast of the whole model."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position",
        first_tap="layers.0.attn.q_rope",
        remedy="keep the table in float32 when the model is cast",
        seen_in=("Automodel pitfalls 5",),
    )
    bits: int = swept(8, grid=(8, 11))

    def frequencies(self, right: torch.Tensor, config: Any) -> torch.Tensor:
        """Rounded to so many significant bits: 8 is bfloat16, 11 float16."""
        return rounded(right, self.bits)


class Angles(Mutation, id="rope.low_precision.angles"):
    """RoPE's angles (position x frequency) are rounded to bfloat16 before their cosine and sine."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position: beyond 256 neighbours share an angle",
        first_tap="layers.0.attn.q_rope",
        remedy="compute positions, angles, cosine and sine in float32 and cast the result",
        seen_in=("NxDI guide", "Automodel pitfalls 5"),
    )
    bits: int = swept(8, grid=(8, 11))

    def applies(self, config: Any) -> bool:
        """Models that compute their frequencies once."""
        return rotary_class(config) is not None and not is_recomputed(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Round the angles to so many significant bits."""
        return angles_replaced(rotary_embedding(model), functools.partial(rounded, bits=self.bits))


class Table(WrongRotation, id="rope.low_precision.table"):
    """The table of cosines and sines is kept in bfloat16: angles are right, what is multiplied by is rounded."""

    record = Record(
        shows="noise at every position from 1 on, which does not grow with position",
        first_tap="layers.0.attn.q_rope",
        remedy="keep cosines and sines in float32, and cast the rotated Q and K",
        seen_in=("transformers #25681", "flash-attention #823",),
    )
    bits: int = swept(8, grid=(8, 11))

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        return right(q, k, rounded(cos, self.bits), rounded(sin, self.bits))
