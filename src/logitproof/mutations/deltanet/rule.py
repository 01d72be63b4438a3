"""What the gated delta rule makes of Q, K and beta."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from logitproof.mutations import Record
from logitproof.mutations.deltanet._rule import WrongRule


class _WrongLength(WrongRule):
    """Q and K of other lengths: subclasses say in `lengths` which, and the rule leaves them alone."""

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        """Both, and V, in float32, as the rule's own norm would give them."""
        query, key = self.lengths(right["query"].float(), right["key"].float())
        return {"query": query, "key": key, "value": right["value"].float(), "use_qk_l2norm_in_kernel": False}

    def lengths(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Q and K [1, T, K, D] as the rule shall take them."""
        raise NotImplementedError


class BetaMissing(WrongRule, id="deltanet.beta_missing"):
    """Beta is left out: every token is written in full."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.core",
        remedy="multiply each update by sigmoid(b)",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"beta": torch.ones_like(right["beta"])}


class BetaDoubled(WrongRule, id="deltanet.beta_doubled"):
    """Beta is doubled: 2·sigmoid(b), as variants with negative eigenvalues have."""

    record = Record(
        shows="wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="double beta only where the family allows negative eigenvalues",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"beta": 2 * right["beta"]}


class BetaNoSigmoid(WrongRule, id="deltanet.beta_no_sigmoid"):
    """Beta lacks its sigmoid: the raw projection is used as beta."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.linear_attn.core",
        remedy="take the sigmoid of the projection",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"beta": right["beta"].logit()}


class QkSwapped(WrongRule, id="deltanet.qk_swapped"):
    """Q and K are exchanged: they are taken in the wrong order from the fused projection."""

    record = Record(
        shows="wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="split the fused projection as Q, K, V",
    )

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        return {"query": right["key"], "key": right["query"]}


class QL2normMissing(_WrongLength, id="deltanet.q_l2norm_missing"):
    """The L2 norm of Q is left out: Q is not divided by its length."""

    record = Record(
        shows="slight: the norm that follows undoes any factor but its eps",
        first_tap="layers.0.linear_attn.core",
        remedy="normalize Q and K",
        seen_in=("flashinfer #5255", "1bit-MONSTER #2134"),
    )

    def lengths(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return query, functional.normalize(key, dim=-1)


class KL2normMissing(_WrongLength, id="deltanet.k_l2norm_missing"):
    """The L2 norm of K is left out: K is divided by the square root of its dimensions instead of by its length."""

    record = Record(
        shows="wrong from position 1 on",
        first_tap="layers.0.linear_attn.core",
        remedy="normalize Q and K",
        seen_in=("flashinfer #5255", "1bit-MONSTER #2134"),
    )

    def lengths(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return functional.normalize(query, dim=-1), key * key.shape[-1] ** -0.5


class ScaleMissing(_WrongLength, id="deltanet.scale_missing"):
    """The scale of Q is left out: Q is not divided by the square root of its dimensions."""

    record = Record(
        shows="slight: the norm that follows undoes any factor but its eps",
        first_tap="layers.0.linear_attn.core",
        remedy="divide Q by the square root of the key head's dimensions",
        seen_in=("shainet #176",),
    )

    def lengths(self, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return functional.normalize(query, dim=-1) * query.shape[-1] ** 0.5, functional.normalize(key, dim=-1)


class VHeadTiling(WrongRule, id="deltanet.v_head_tiling"):
    """Key heads are tiled over the value heads instead of repeated: value head h uses key head h mod K instead of h·K/H."""

    record = Record(
        shows="wrong from position 0 on; only where there are more value heads than key heads",
        first_tap="layers.0.linear_attn.core",
        remedy="repeat each key head for the value heads that follow each other",
        seen_in=("sglang #38363",),
    )

    def applies(self, config: Any) -> bool:
        """Models with more value heads than key heads, and more than one of these."""
        return super().applies(config) and config.linear_num_value_heads > config.linear_num_key_heads > 1

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        times = layer.num_v_heads // layer.num_k_heads
        return {name: right[name].repeat(1, 1, times, 1) for name in ("query", "key")}
