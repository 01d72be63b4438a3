"""The activation after the convolution is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference.patches import replaced


@dataclass
class ConvActivationMissing(Mutation):
    """The SiLU after the convolution is left out."""

    bug: ClassVar[str] = "the activation after the convolution is left out"
    shows: ClassVar[str] = "wrong from position 0 on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.conv"
    remedy: ClassVar[str] = "apply SiLU after the convolution"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return replaced(model, ("causal_conv1d_fn", "causal_conv1d_update"), _linear)


def _linear(layer: Any, original: Any) -> Any:
    def convolve(*tensors: Any, **options: Any) -> Any:
        # the update takes the activation as its fifth positional argument
        return original(*tensors[:4], **{**options, "activation": None})

    return convolve
