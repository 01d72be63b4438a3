"""The convolution's state lacks the newest token."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference.patches import replaced


@dataclass
class ConvStateEarly(Mutation):
    """The convolution's state is stored before the newest token of the step before is in it."""

    bug: ClassVar[str] = "the convolution's state lacks the newest token"
    shows: ClassVar[str] = "prefill exact, decode wrong from position 1 on"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #34587", "transformers #46190")
    first_tap: ClassVar[str] = "layers.0.linear_attn.conv"
    remedy: ClassVar[str] = "store the state after the token was added"
    needs: ClassVar[str] = "decode"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return replaced(model, ("causal_conv1d_update",), _lagging)


def _lagging(layer: Any, original: Any) -> Any:
    def update(x: torch.Tensor, state: torch.Tensor, *rest: Any) -> Any:
        late = state.roll(1, -1)
        out = original(x, late, *rest)
        state.copy_(torch.cat((state, x), dim=-1)[..., -state.shape[-1] :])
        return out

    return update
