"""A transformers model in true float64, although its code asks for float32 in norms, softmax and RoPE.

Every torch call of the model's forward passes through `Float64`, which reads float32 as float64 in its
arguments and refuses any call that still yields a narrower float. So nothing can be rounded unseen, and
`upgraded` names the places where the model's own code would have rounded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from logitproof.errors import Refusal
from logitproof.reference.cache import through_cache

FAMILIES = (
    "apertus", "arcee", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5_moe", "exaone4", "falcon_h1", "gemma", "gemma2",
    "gemma3_text", "gemma3n_text", "gemma4_text", "glm4", "glm4_moe", "gpt_oss", "granite", "granitemoehybrid",
    "hunyuan_v1_dense", "kimi_linear", "lfm2", "llama", "llama4_text", "mamba2", "minimax_m2", "mistral", "nemotron_h",
    "olmo2", "olmo3", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_5", "qwen3_5_moe_text", "qwen3_5_text",
    "qwen3_moe", "qwen3_next", "seed_oss", "smollm3",
)  # fmt: skip
"""Model types of which a probe's float64 logits are given again to the last digit of float32, in one pass and by the cache."""
NARROW = (torch.float32, torch.bfloat16, torch.float16)


class Float64(TorchFunctionMode):  # type: ignore[misc]
    """While entered, torch computes in float64 wherever float32 is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.upgraded: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        caller = sys._getframe(1).f_code.co_qualname
        named = kwargs or {}
        asks = func is torch.Tensor.float or any(value is torch.float32 for value in (*args, *named.values()))
        if asks:
            name = getattr(func, "__name__", str(func))
            self.upgraded.add(f"{caller}: {name}")
            func = torch.Tensor.double if func is torch.Tensor.float else func
            args = tuple(_wide(value) for value in args)
            named = {key: _wide(value) for key, value in named.items()}
        result = func(*args, **named)
        if isinstance(result, torch.Tensor) and result.dtype in NARROW:
            raise Refusal(
                f"{caller} made a {result.dtype} tensor in float64 mode",
                field="dtype",
                remedy="use dtype: float32 for this model",
            )
        return result


@contextmanager
def float64() -> Iterator[Float64]:
    """Float64 arithmetic and float64 as the default type, until the context is left."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Float64() as mode:
            yield mode
    finally:
        torch.set_default_dtype(before)


def check_family(model_type: str) -> None:
    """Refuse a family whose float64 forward pass has not been checked."""
    if model_type not in FAMILIES:
        raise Refusal(
            f"float64 is not known to be right for {model_type!r}, only for {', '.join(FAMILIES)}",
            field="dtype",
            remedy="use dtype: float32",
        )


def widen(model: torch.nn.Module) -> list[str]:
    """Rebuild the RoPE tables of a loaded float64 `model` in float64 and say where its code was upgraded.

    The inverse frequencies are the only tensors that are computed instead of loaded; a cast of their
    float32 values would keep the rounding.
    """
    _widen_loaded(model)
    widen_tables(model)
    narrow = [name for name, tensor in _tensors(model) if tensor.dtype in NARROW]
    if narrow:
        raise Refusal(f"still not float64: {', '.join(narrow[:8])}", field="dtype", remedy="use dtype: float32")
    with torch.inference_mode(), float64() as mode:
        _, cache = through_cache(model, torch.zeros((1, 2), dtype=torch.long, device=_device(model)))
        through_cache(model, torch.zeros((1, 1), dtype=torch.long, device=_device(model)), cache)
    return sorted(mode.upgraded)


def _widen_loaded(model: torch.nn.Module) -> None:
    """What a family's code loads as float32 whatever it is asked for: every float32 of a file is a float64."""
    for tensor in model.state_dict(keep_vars=True).values():
        if tensor.dtype in NARROW:
            tensor.data = tensor.data.double()


def widen_tables(model: torch.nn.Module) -> None:
    """Compute again in float64 what is computed and not loaded: inverse frequencies of RoPE, and the scale of an embedding."""
    tables = [(name, module) for name, module in model.named_modules() if _frequencies(module)]
    scaled = [module for module in model.modules() if hasattr(module, "scalar_embed_scale")]
    with float64():
        for name, module in tables:
            model.set_submodule(name, type(module)(config=module.config).to(_frequencies(module)[0].device))
        for module in scaled:
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64, device=_device(model))


def _frequencies(module: torch.nn.Module) -> list[torch.Tensor]:
    """Buffers of inverse frequencies that are the module's own; some families have those of each kind of layer."""
    return [buffer for name, buffer in module.named_buffers(recurse=False) if name.endswith("inv_freq")]


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def _tensors(model: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device
