"""Latent attention (MLA): its scale, YaRN's factor in it, which part is rotated, how the latent is normed and parted."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations._tensors import Change, WrongTensors
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed

SCORES, LATENT, Q, K = "layers.0.attn.scores", "layers.0.attn.latent", "layers.0.attn.q", "layers.0.attn.k"


class _WrongLatent(Mutation):
    """A bug in layers whose keys and values come from one latent."""

    def applies(self, config: Any) -> bool:
        """Models with latent attention."""
        return bool(parts.latent_attentions(parts.skeleton(config)))


class _WrongScale(_WrongLatent):
    """What scores are multiplied by: said in `scaling`."""

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Give every layer the wrong scale."""
        layers = parts.latent_attentions(model)
        return attributes_replaced([(layer, "scaling", self.scaling(layer, model.config)) for layer in layers])

    def scaling(self, layer: Any, config: Any) -> float:
        """The wrong scale of a layer."""
        raise NotImplementedError


class ScaleOfValueHead(_WrongScale, id="attention.latent_scale_of_value_head"):
    """Scores are divided by the root of the size of a head of V."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="use qk_nope_head_dim + qk_rope_head_dim",
    )

    def scaling(self, layer: Any, config: Any) -> float:
        return float(layer.scaling * (layer.qk_head_dim / layer.v_head_dim) ** 0.5)


class ScaleOfUnturnedPart(_WrongScale, id="attention.latent_scale_of_nope_part"):
    """Scores are divided by the root of the size of the part without positions alone."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="use qk_nope_head_dim + qk_rope_head_dim",
    )

    def scaling(self, layer: Any, config: Any) -> float:
        return float(layer.scaling * (layer.qk_head_dim / layer.qk_nope_head_dim) ** 0.5)


class ScaleOfAbsorbedHead(_WrongScale, id="attention.latent_scale_of_absorbed_head"):
    """Scores are divided by the root of the absorbed size, latent and rotary part, and not by that of the head."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="use qk_nope_head_dim + qk_rope_head_dim",
        seen_in=("ollama #13893",),
    )

    def scaling(self, layer: Any, config: Any) -> float:
        return float(layer.scaling * (layer.qk_head_dim / (layer.kv_lora_rank + layer.qk_rope_head_dim)) ** 0.5)


class _WrongFactor(_WrongScale):
    """YaRN's factor of the scores, which is squared because it belongs to q and to k: said in `factor`."""

    def applies(self, config: Any) -> bool:
        """Models whose scores have one."""
        return super().applies(config) and self.factor(_mscale(config)) != _mscale(config) ** 2

    def scaling(self, layer: Any, config: Any) -> float:
        """The scale with the wrong factor in place of the right one."""
        right = _mscale(config)
        return float(layer.scaling / right**2 * self.factor(right))

    def factor(self, mscale: float) -> float:
        """What scores are multiplied by in place of the square of `mscale`."""
        raise NotImplementedError


class FactorMissing(_WrongFactor, id="attention.latent_mscale_missing"):
    """YaRN's factor (mscale) is missing from the scale of the scores."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="multiply the scale by mscale squared",
        seen_in=("mobius #548", "optimum-intel #1877", "transformers #47435"),
    )

    def factor(self, mscale: float) -> float:
        return 1.0


class FactorOnce(_WrongFactor, id="attention.latent_mscale_once"):
    """YaRN's factor (mscale) is in the scale of the scores once and not squared."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="multiply the scale by mscale squared",
    )

    def factor(self, mscale: float) -> float:
        return mscale


class FactorTwice(_WrongFactor, id="attention.latent_mscale_twice"):
    """YaRN's squared factor (mscale) is in the scale of the scores twice."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="multiply the scale by mscale squared, once",
    )

    def factor(self, mscale: float) -> float:
        return mscale**4


class FactorOfOne(_WrongScale, id="attention.latent_mscale_of_one"):
    """YaRN's factor is computed with a weight of one and not with mscale_all_dim of the config."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="use mscale_all_dim of the config",
        seen_in=("Megatron-LM #1429",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose weight is another."""
        return super().applies(config) and _mscale(config) not in (1.0, _mscale(config, 1.0))

    def scaling(self, layer: Any, config: Any) -> float:
        return float(layer.scaling * (_mscale(config, 1.0) / _mscale(config)) ** 2)


class FactorInRotation(_WrongLatent, id="attention.latent_mscale_in_rotation"):
    """YaRN's factor multiplies cosine and sine although mscale and mscale_all_dim cancel there."""

    record = Record(
        shows="wrong from position 0 on where q and k are rotated",
        first_tap="layers.0.attn.q_rope",
        remedy="multiply cosine and sine by the quotient of the two factors",
        seen_in=("kekzl/imp #880",),
    )

    def applies(self, config: Any) -> bool:
        """Models with the factor."""
        return super().applies(config) and _mscale(config) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        table = parts.decoder(model).rotary_emb
        return attributes_replaced([(table, "attention_scaling", table.attention_scaling * _mscale(model.config, 1.0))])


class LatentNormMissing(_WrongLatent, id="attention.latent_norm_missing"):
    """The latent of K and V is not normed."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.attn.latent",
        remedy="norm the latent (kv_a_layernorm) before it is cached",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norms = [layer.kv_a_layernorm for layer in parts.latent_attentions(model)]
        return attributes_replaced([(norm, "forward", lambda x: x) for norm in norms])


class QueryNormMissing(_WrongLatent, id="attention.query_latent_norm_missing"):
    """The latent of Q is not normed."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.q",
        remedy="norm the latent of q (q_a_layernorm)",
    )

    def applies(self, config: Any) -> bool:
        """Models with a latent of q."""
        return super().applies(config) and bool(config.q_lora_rank)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norms = [layer.q_a_layernorm for layer in parts.latent_attentions(model)]
        return attributes_replaced([(norm, "forward", lambda x: x) for norm in norms])


class LatentNormWithRotaryPart(_WrongLatent, id="attention.latent_norm_over_rotary_part"):
    """The norm's mean is taken over the latent and the rotary part together."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.attn.latent", remedy="split the rotary part off before the norm"
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        stack = ExitStack()
        for layer in parts.latent_attentions(model):
            kept: list[torch.Tensor] = []
            watch = functools.partial(_kept, kept)
            stack.callback(layer.kv_a_proj_with_mqa.register_forward_hook(watch).remove)
            forward = functools.partial(_normed_together, layer.kv_a_layernorm, kept)
            stack.enter_context(attributes_replaced([(layer.kv_a_layernorm, "forward", forward)]))
        return stack


class RotaryPartFirst(_WrongLatent, id="attention.latent_rotary_part_first"):
    """Heads of Q are parted the wrong way: their first entries are rotated and not their last."""

    record = Record(
        shows="wrong from position 1 on",
        first_tap="layers.0.attn.q_rope",
        remedy="a head of q is the part without positions, then the rotary part",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        def turned(layer: Any, _: Any, out: torch.Tensor) -> torch.Tensor:
            heads = out.unflatten(-1, (-1, layer.qk_head_dim))
            return heads.roll(-layer.qk_rope_head_dim, dims=-1).flatten(-2)

        name = "q_b_proj" if model.config.q_lora_rank else "q_proj"
        return _projections_changed(model, name, turned)


class RotaryKeyBeforeLatent(_WrongLatent, id="attention.latent_rotary_key_first"):
    """The projection of the latent is parted the wrong way: the rotary key is taken from its first columns."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.attn.latent",
        remedy="the projection holds the latent, then the rotary key",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        def rolled(layer: Any, _: Any, out: torch.Tensor) -> torch.Tensor:
            return out.roll(-layer.qk_rope_head_dim, dims=-1)

        return _projections_changed(model, "kv_a_proj_with_mqa", rolled)


class _WrongUp(WrongTensors):
    """The up projection of K and V [H · (N + D), L], read otherwise: said in `read`."""

    def applies(self, config: Any) -> bool:
        """Models with latent attention."""
        return bool(parts.latent_attentions(parts.skeleton(config)))

    def changes(self, model: Any) -> Iterable[Change]:
        """Every layer's up projection."""
        for layer in parts.latent_attentions(model):
            heads, right = layer.num_heads, layer.kv_b_proj.weight
            yield right, self.read(right.reshape(heads, -1, right.shape[1]), layer.qk_nope_head_dim).reshape(right.shape)

    def read(self, right: torch.Tensor, nope: int) -> torch.Tensor:
        """The wrong rows [H, N + D, L] for the right ones, of which the first `nope` are those of K."""
        raise NotImplementedError


class ValuesBeforeKeys(_WrongUp, id="attention.latent_values_before_keys"):
    """The up projection's rows of V are taken for those of K, and the other way round."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.attn.k", remedy="each head's rows are those of K, then those of V"
    )

    def read(self, right: torch.Tensor, nope: int) -> torch.Tensor:
        return right.roll(-nope, dims=1)


class KeysOfAllHeadsFirst(_WrongUp, id="attention.latent_keys_of_all_heads_first"):
    """The up projection is read as the K of all heads and then the V of all heads."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.attn.k", remedy="K and V lie together head by head")

    def read(self, right: torch.Tensor, nope: int) -> torch.Tensor:
        heads, rows, _ = right.shape
        flat = right.flatten(0, 1)
        keys, values = flat[: heads * nope].unflatten(0, (heads, nope)), flat[heads * nope :].unflatten(0, (heads, rows - nope))
        return torch.cat([keys, values], dim=1)


class AbsorbedTransposed(_WrongUp, id="attention.latent_absorbed_transposed"):
    """The matrix that is absorbed into Q is reshaped where it should be transposed."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.k",
        remedy="transpose K's rows of each head before they are absorbed",
    )

    def read(self, right: torch.Tensor, nope: int) -> torch.Tensor:
        keys = right[:, :nope]
        return torch.cat([keys.mT.reshape(keys.shape), right[:, nope:]], dim=1)


class HeadsOfKeysRolled(_WrongUp, id="attention.latent_heads_of_keys_rolled"):
    """Each head absorbs the K of its neighbour."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on",
        first_tap="layers.0.attn.k",
        remedy="head h of q belongs to head h of the up projection",
    )

    def read(self, right: torch.Tensor, nope: int) -> torch.Tensor:
        return torch.cat([right[:, :nope].roll(1, 0), right[:, nope:]], dim=1)


class _WrongLatentCache(_WrongLatent):
    """The latents of earlier tokens, in the cache as they should not be: said in `old`."""

    needs = "decode"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Stand between the norm of the latent and what reads it."""
        changes: list[tuple[Any, str, Any]] = []
        for layer in parts.latent_attentions(model):
            changes.append((layer, "expand_kv", functools.partial(self._expanded, layer, layer.expand_kv)))
        return attributes_replaced(changes)

    def old(self, layer: Any, latents: torch.Tensor) -> torch.Tensor:
        """What is found for latents [B, 1, S, L] of earlier tokens."""
        raise NotImplementedError

    def _expanded(self, layer: Any, right: Any, latents: torch.Tensor, turned: torch.Tensor) -> Any:
        if latents.shape[2] > 1:
            latents = torch.cat([self.old(layer, latents[:, :, :-1]), latents[:, :, -1:]], dim=2)
        return right(latents, turned)


class LatentNormedAgain(_WrongLatentCache, id="attention.latent_normed_again"):
    """Latents are cached after their norm and normed again when they are read."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.attn.k",
        remedy="norm once, before or after the cache",
    )

    def old(self, layer: Any, latents: torch.Tensor) -> torch.Tensor:
        return layer.kv_a_layernorm(latents)


class LatentCachedBeforeNorm(_WrongLatentCache, id="attention.latent_cached_before_norm"):
    """Latents are cached without the weight of their norm and read as if they had it."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on", first_tap="layers.0.attn.k", remedy="cache the normed latent"
    )

    def old(self, layer: Any, latents: torch.Tensor) -> torch.Tensor:
        return latents / layer.kv_a_layernorm.weight


def _kept(kept: list[torch.Tensor], module: Any, given: Any, out: torch.Tensor) -> None:
    kept[:] = [out]


def _normed_together(norm: Any, kept: list[torch.Tensor], latent: torch.Tensor) -> torch.Tensor:
    """The latent over the root mean square of all that was projected with it."""
    mean = kept[0].float().square().mean(-1, keepdim=True)
    return (latent.float() * torch.rsqrt(mean + norm.variance_epsilon) * norm.weight).to(latent.dtype)


def _mscale(config: Any, weight: float | None = None) -> float:
    """YaRN's factor 0.1 · w · ln(scale) + 1, w being mscale_all_dim (Peng et al. 2023); 1 without it."""
    rope = getattr(config, "rope_parameters", None) or {}
    weight = rope.get("mscale_all_dim", 0.0) if weight is None else weight
    return 0.1 * weight * math.log(rope["factor"]) + 1.0 if weight and rope.get("factor", 1.0) > 1 else 1.0


def _projections_changed(model: Any, name: str, change: Any) -> AbstractContextManager[Any]:
    """While open, `change(layer, inputs, output)` is what the projection `name` of every layer returns."""
    layers = {id(getattr(layer, name)): layer for layer in parts.latent_attentions(model)}
    modules = [getattr(layer, name) for layer in layers.values()]
    return outputs_changed(modules, lambda module, given, out: change(layers[id(module)], given, out))
