"""What of an arithmetic is imitated on a loaded model: the noise of its operations, and how each matrix takes its input."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from logitproof.contract.arithmetic import ACTIVATIONS, Arithmetic, Format
from logitproof.errors import Refusal
from logitproof.files.gguf import GgufFile
from logitproof.gguf.families import layout_of
from logitproof.reference.dequantize import parameters_of
from logitproof.reference.noise import FLOATS, Spec
from logitproof.weights.config import read_config


def spec_of(arithmetic: Arithmetic, formats: Mapping[str, Format], positions: int) -> Spec:
    """The noise of an arithmetic on so many positions; `formats` are those of a file's matrices."""
    return Spec(
        base=FLOATS.get(arithmetic.computed, torch.float32),
        scale=0.0 if arithmetic.computed == "float64" else 1.0,
        formats=formats if arithmetic.blocks else {},
        cache=arithmetic.cache,
        lanes=arithmetic.lanes,
        half_sums=arithmetic.sums_values_in_float16(positions),
        sums=arithmetic.summed,
        half_gelu=arithmetic.gelu == "float16",
    )


def formats_of(file: Path, config: Path, model: torch.nn.Module) -> Mapping[str, Format]:
    """The format of the activations of every matrix of a GGUF file, by the parameter of transformers.

    Raises Refusal of a quantization whose activations are not known.
    """
    formats: dict[str, Format] = {}
    names = parameters_of(layout_of(read_config(config), str(config)), dict(model.named_parameters()))
    for tensor in GgufFile(file).tensors:
        kind, name = tensor.tensor_type.name, names.get(tensor.name)
        if kind not in ACTIVATIONS:
            text = f"{tensor.name} of {file.name} is {kind}: it is not known how its activations are rounded"
            raise Refusal(text, field="model", remedy="calibrate a file of another quantization")
        form = ACTIVATIONS[kind]
        if form is not None and name is not None:
            formats[name] = form
    return formats
