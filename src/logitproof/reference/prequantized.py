"""Checkpoints whose weights are quantized already, as `quantization_config` in config.json says.

compressed-tensors is unpacked into plain matrices when it is loaded, so what is computed with are the weights that the
file means, without a kernel of its own. Other methods bring kernels that decide the result, so they are refused here.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import torch

from logitproof.errors import Refusal

UNPACKED = "compressed-tensors"
FULL = "name the unquantized model, or a GGUF file of it, which is dequantized; compressed-tensors is read as well"


def unpack(stated: Any, file: Path) -> dict[str, Any]:
    """The quantization_config of `file` with the order to unpack; else transformers would unpack in the first pass only.

    Refuses what cannot be unpacked here, and what needs a package that is missing.
    """
    settings = dict(stated if isinstance(stated, dict) else stated.to_dict())
    method = str(settings.get("quant_method", "unnamed"))
    if method != UNPACKED:
        text = f"its weights are quantized by {method!r}, whose own kernels would decide the logits of the reference"
        raise Refusal(text, field=f"{file}: quantization_config", remedy=FULL)
    if importlib.util.find_spec("compressed_tensors") is None:
        text = "its weights are packed by compressed-tensors, which is not installed in this engine's environment"
        raise Refusal(text, field=f"{file}: quantization_config", remedy="pip install compressed-tensors==0.20.0")
    return {**settings, "dequantize": True}


def unpacked(model: Any, folder: Path) -> dict[str, Any]:
    """What to record about a model that was packed; refuses one with a matrix that is packed still."""
    packed = [name for name, module in model.named_modules() if _is_packed(module)]
    if packed:
        text = f"{packed[0]} is packed still after it was loaded, as {type(model.get_submodule(packed[0])).__name__}"
        raise Refusal(text, field=str(folder), remedy="give the unquantized model")
    return {"unpacked": {"method": UNPACKED, "version": importlib.metadata.version(UNPACKED)}}


def _is_packed(module: Any) -> bool:
    """A matrix without a plain weight."""
    weight = getattr(module, "weight", None)
    inner = isinstance(module, torch.nn.Linear) and not (weight is not None and weight.is_floating_point())
    return inner or hasattr(module, "weight_packed")
