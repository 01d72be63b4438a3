"""What RMS norms compute: mean, root, epsilon, weight, and in which type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.norm._norms import WrongFormula, WrongKind, WrongKinds, WrongNorm, divided, eps, is_one_centred, scale


class _WholeWeight(WrongKinds):
    def _all(self, model: Any) -> list[Any]:
        """Norms that store their whole weight."""
        return [norm for norm in super()._all(model) if not is_one_centred(norm)]


class _WeightLessOne(WrongKinds):
    def _all(self, model: Any) -> list[Any]:
        """Norms that store their weight less one."""
        return [norm for norm in super()._all(model) if is_one_centred(norm)]


class EpsValue(WrongKind, id="norm.eps_value"):
    """The epsilon of RMS norms is not the config's."""

    record = Record(
        shows="slow: at most 1e-3 in the middle, largest for tokens of small norm such as the first",
        first_tap="layers.0.attn_norm",
        remedy="read rms_norm_eps from the config",
        needs="small activations",
        seen_in=("tvm #15856", "llama.cpp #23815", "torchtitan #4395", "FastDeploy #2797"),
    )
    eps: float = swept(1e-3, grid=(1e-5, 1e-6, 1e-8, 1e-3), between=(1e-9, 1e-1))

    def applies(self, config: Any) -> bool:
        """Where the model's own epsilon is another."""
        return super().applies(config) and getattr(config, "rms_norm_eps", self.eps) != self.eps

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every value in every kind of norms."""
        kinds = list(super().instances(config, token_ids))
        yield from ({**kind, "eps": eps} for kind in kinds for eps in type(self).grid["eps"])

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x, self.eps) * scale(norm)


class EpsOutsideRoot(WrongKind, id="norm.eps_outside_root"):
    """The epsilon is added to the root, not under it: x / (rms + eps)."""

    record = Record(
        shows="slow, largest for tokens of small norm",
        first_tap="layers.0.attn_norm",
        remedy="take the root of the mean square plus epsilon",
        needs="small activations",
        seen_in=("keras-hub #1472", "OLMo #281"),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True).sqrt() + eps(norm)) * scale(norm)


class LayerNorm(WrongKinds, id="norm.layer_norm"):
    """LayerNorm stands in the place of RMSNorm: the mean is subtracted."""

    record = Record(
        shows="wrong at the first layer and every position, by the size of the mean",
        first_tap="layers.0.attn_norm",
        remedy="do not subtract the mean",
        seen_in=("llama.cpp #173",),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x - x.mean(-1, keepdim=True), eps(norm)) * scale(norm)


class LengthForRootMeanSquare(WrongKinds, id="norm.length_for_root_mean_square"):
    """RMS norms divide by the length of the vector: the squares are added and not averaged."""

    record = Record(
        shows="wrong at the first layer and every position; every block gives too little",
        first_tap="layers.0.attn_norm",
        remedy="divide by the root of the mean of the squares, not of their sum",
        seen_in=("tt-mlir #8798",),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps(norm)) * scale(norm)


class OverSequence(WrongKinds, id="norm.over_sequence"):
    """The mean of the squares is taken over the positions too: all of them are divided by one number."""

    record = Record(
        shows="wrong at the first layer; early positions depend on later ones, and decode differs from prefill",
        first_tap="layers.0.attn_norm",
        remedy="take the mean over the width of one position",
        seen_in=("llama-from-scratch #4",),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x, eps(norm), tuple(range(1, x.ndim))) * scale(norm)


class WeightMissing(WrongKinds, id="norm.weight_missing"):
    """The norm's weight is not applied."""

    record = Record(
        shows="wrong at the first layer and every position",
        first_tap="layers.0.attn_norm",
        remedy="multiply by the weight",
        seen_in=("1bit-MONSTER #1154",),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x, eps(norm))


class OneAdded(_WholeWeight, id="norm.one_added"):
    """One is added to a norm's weight that already holds it, as Gemma's norms do."""

    record = Record(
        shows="wrong at the first layer and every position",
        first_tap="layers.0.attn_norm",
        remedy="add one only where the family stores the weight less one",
        seen_in=("llama.cpp's converter, which adds it on conversion",),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x, eps(norm)) * (1.0 + norm.weight.float())


class OneMissing(_WeightLessOne, id="norm.one_missing"):
    """The one that belongs to the norm's weight (Gemma, Qwen3.5) is missing."""

    record = Record(
        shows="gibberish from the first layer on",
        first_tap="layers.0.attn_norm",
        remedy="add one to the weight, on loading or in the norm, once",
        seen_in=("executorch #19901", "llmman #151", "shainet #176"),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x, eps(norm)) * norm.weight.float()


class OneTwice(_WeightLessOne, id="norm.one_twice"):
    """One is added to a weight (Gemma, Qwen3.5) to which the converter had added it already."""

    record = Record(
        shows="wrong at the first layer and every position; outputs depend little on the prompt",
        first_tap="layers.0.attn_norm",
        remedy="add one to the weight, on loading or in the norm, once",
        seen_in=("mold #1078", "vLLM #31464", "meganeura #188"),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return divided(x, eps(norm)) * (2.0 + norm.weight.float())


class LowPrecision(WrongFormula, id="norm.low_precision"):
    """Norms round the squares, their mean and its root to bfloat16."""

    record = Record(
        shows="slow, the same direction in every norm, growing with depth",
        first_tap="layers.0.attn_norm",
        remedy="normalize in float32 and round once, at the end",
        seen_in=("amd/IRON #139", "EasyLM #50"),
    )

    def formula(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        wide = rounded(x)
        root = rounded(torch.rsqrt(rounded(rounded(wide.square()).mean(-1, keepdim=True)) + eps(norm)))
        return rounded(rounded(wide * root) * scale(norm))


class CastOrder(WrongNorm, id="norm.cast_order"):
    """The norm is rounded to the type of the model before its weight where it belongs after it, or the other way round."""

    record = Record(
        shows="in bfloat16 at most one unit in the last place of a norm",
        first_tap="layers.0.attn_norm",
        remedy="round where the family does: Llama before the weight, Gemma after it",
        equivalent=(
            "float32 has nothing to round to, so that both orders are one product; a narrower type moves a norm by "
            "one unit in the last place, which is less than its own noise"
        ),
        seen_in=("transformers #33133", "TransformerEngine #1132"),
    )

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        made = divided(x.float(), eps(norm))
        if is_one_centred(norm):
            return made.to(x.dtype) * scale(norm).to(x.dtype)
        return (made * scale(norm)).to(x.dtype)
