"""The recurrent state between tokens, chunks and sequences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.deltanet._rule import WrongCall, WrongRule
from logitproof.reference.patches import CHUNKED, RECURRENT, replaced


class _WrongState(WrongRule):
    """A bug in the state that the rule begins with: subclasses say in `state` which it is."""

    functions = (RECURRENT,)

    def given(self, layer: Any, right: dict[str, Any]) -> dict[str, Any]:
        """The wrong state where there is one."""
        begin = right["initial_state"]
        return {"initial_state": None if begin is None else self.state(begin)}

    def state(self, right: torch.Tensor) -> torch.Tensor | None:
        """The wrong state [1, H, D, D] for the right one; None is an empty one."""
        raise NotImplementedError


class StateReset(_WrongState, id="deltanet.state_reset"):
    """The recurrent state is not carried from token to token: each begins with an empty one."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.linear_attn.out",
        remedy="keep the state in the cache",
        needs="decode",
        seen_in=("vLLM #34587", "transformers #46190"),
    )

    def state(self, right: torch.Tensor) -> torch.Tensor | None:
        return None


class ChunkStateLost(_WrongState, id="deltanet.chunk_state_lost"):
    """The recurrent state is lost between chunks of a prefill: each begins with an empty one."""

    record = Record(
        shows="exact in the first chunk, wrong from the second on",
        first_tap="layers.0.linear_attn.out",
        remedy="carry the state from chunk to chunk",
        needs="chunked prefill",
        seen_in=("realizar #94", "sglang #38319"),
    )
    functions = (CHUNKED,)

    def state(self, right: torch.Tensor) -> torch.Tensor | None:
        return None


class StateTransposed(_WrongState, id="deltanet.state_transposed"):
    """The cached state is transposed: it is stored with keys first and read with values first."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.linear_attn.out",
        remedy="store and read the state in one layout",
        needs="decode",
        seen_in=("sparkinfer #615",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose state is square."""
        return super().applies(config) and config.linear_key_head_dim == config.linear_value_head_dim

    def state(self, right: torch.Tensor) -> torch.Tensor | None:
        return right.transpose(-1, -2).contiguous()


class StateHeadsRolled(_WrongState, id="deltanet.state_heads_rolled"):
    """The cached state's heads are in the wrong order."""

    record = Record(
        shows="prefill exact, decode wrong from position 1 on",
        first_tap="layers.0.linear_attn.out",
        remedy="store and read the state in one layout",
        needs="decode",
    )

    def state(self, right: torch.Tensor) -> torch.Tensor | None:
        return right.roll(1, 1)


class StateLowPrecision(_WrongState, id="deltanet.state_low_precision"):
    """The recurrent state is kept in bfloat16 between tokens."""

    record = Record(
        shows="prefill exact, decode drifts with position",
        first_tap="layers.0.linear_attn.out",
        remedy="keep the state in float32",
        needs="decode",
        seen_in=("TensorRT-Model-Connect #725", "ollama #15865", "vLLM #13466"),
    )

    def state(self, right: torch.Tensor) -> torch.Tensor | None:
        return right.bfloat16().float()


class StateNotReset(WrongCall, id="deltanet.state_not_reset"):
    """The recurrent state is not reset between sequences: each begins with the one that the last left."""

    record = Record(
        shows="the first sequence exact, every later one wrong from position 0 on",
        first_tap="layers.0.linear_attn.out",
        remedy="reset the state when a sequence begins",
        needs="second sequence",
        seen_in=("vLLM #34587", "transformers #46190"),
    )
    functions = (CHUNKED, RECURRENT)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Let every layer remember its last state while this is open."""
        return replaced(model, self.functions, functools.partial(_remembering, {}))


def _remembering(states: dict[Any, Any], layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def rule(query: Any, key: Any, value: Any, **options: Any) -> Any:
        wanted = options.pop("output_final_state", False)
        if options.get("initial_state") is None:
            options["initial_state"] = states.get(layer)
        out, states[layer] = original(query, key, value, output_final_state=True, **options)
        return out, states[layer].clone() if wanted else None

    return rule
