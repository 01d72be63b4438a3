"""The norms of a layer stand after its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.norm._norms import forward_replaced, normalized
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import outputs_changed


@dataclass
class PostForPre(Mutation):
    """The norms of a layer stand after its blocks."""

    bug: ClassVar[str] = "what attention and the MLP give is normalized, not what they get"
    shows: ClassVar[str] = "gibberish from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.attn_norm"
    remedy: ClassVar[str] = "normalize before attention and before the MLP, and add to the residual what they give"

    def applies(self, config: Any) -> bool:
        """Models with norms before both blocks and none after them."""
        return all(set(roles(layer)) == {"before_attention", "before_mlp"} for layer in parts.layers(parts.skeleton(config)))

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        """Move each norm behind its block."""
        moved = {}
        for layer in parts.layers(model):
            found, own = roles(layer), dict(layer.named_children())
            moved[own.get("self_attn") or own["linear_attn"]] = found["before_attention"]
            moved[layer.mlp] = found["before_mlp"]

        def change(block: Any, _: Any, out: Any) -> Any:
            if isinstance(out, tuple):
                return (normalized(moved[block], out[0]), *out[1:])
            return normalized(moved[block], out)

        with forward_replaced(moved.values(), lambda _, x: x), outputs_changed(moved, change):
            yield
