"""The function that attends, `eager_attention_forward` of a modeling module, replaced for one model only."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import functions_replaced

NAME = "eager_attention_forward"
Out = tuple[torch.Tensor, Any]


class WrongAttention(Mutation):
    """A bug in attention itself: subclasses say in `attend` what is given to the right function, or done in its place."""

    def applies(self, config: Any) -> bool:
        """Models that attend through the replaceable function."""
        model = parts.skeleton(config)
        return bool(parts.attentions(model)) and all(hasattr(_module(attention), NAME) for attention in parts.attentions(model))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Attend wrongly in every attention layer of `model`, which must be eager."""
        return functions_replaced(model, "Attention", (NAME,), self._wrong)

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """q [B, H, T, D], k and v [B, K, S, D], mask [B, 1, T, S] added to the scores; `rest` holds `scaling`."""
        raise NotImplementedError

    def _wrong(self, original: Callable[..., Out]) -> Callable[..., Out]:
        def attend(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any) -> Out:
            return self.attend(original, module, q, k, v, mask, **rest)

        return attend


class WrongMask(WrongAttention):
    """A bug in which keys a query sees: subclasses say in `seen`."""

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Attend to what is seen."""
        seen = visible(mask, q, k)
        return right(module, q, k, v, additive(self.seen(seen, ages(seen), rest.get("sliding_window")), q), **rest)

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        """Which keys each query sees, bool [B, 1, T, S], for the right ones; age [T, S] as `ages` counts it."""
        raise NotImplementedError


class WrongScale(WrongAttention):
    """A bug in what scores are multiplied by: subclasses say in `scaling`."""

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Attend by the wrong scale."""
        return right(module, q, k, v, mask, **{**rest, "scaling": self.scaling(rest["scaling"], module.config)})

    def scaling(self, right: float, config: Any) -> float:
        """The wrong scale for the right one."""
        raise NotImplementedError


def visible(mask: Any, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Which keys each query may see, bool [B, 1, T, S]."""
    if mask is None:
        return torch.ones(q.shape[0], 1, q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    return mask if mask.dtype is torch.bool else mask > torch.finfo(mask.dtype).min / 2


def additive(seen: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The mask that hides everything that is not seen, in the type of `like`."""
    return torch.zeros_like(seen, dtype=like.dtype).masked_fill(~seen, torch.finfo(like.dtype).min)


def ages(seen: torch.Tensor) -> torch.Tensor:
    """How many positions lie between each query and each key [T, S]; negative for later keys."""
    queries, keys = seen.shape[-2:]
    return torch.arange(keys - queries, keys, device=seen.device)[:, None] - torch.arange(keys, device=seen.device)[None]


def _module(attention: Any) -> Any:
    return importlib.import_module(type(attention).__module__)


def has_window(config: Any) -> bool:
    """Whether some layers attend to a window only."""
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    return bool(window) and ("sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True))


def is_special(config: Any) -> bool:
    """Whether attention has sinks or a soft-cap."""
    return config.model_type == "gpt_oss" or bool(getattr(config, "attn_logit_softcapping", None))
