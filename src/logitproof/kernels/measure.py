"""The error of every kind of operation of a model at its own shapes, library by library, against float64.

This is what the noise of `calibrate` is made of: beside each measured error stands the one that the noise would have.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.kernels.kernel import Kernel
from logitproof.weights.model import open_model

TEXT = (
    "The lighthouse stood at the end of the pier, and every evening at six the keeper climbed its 129 steps to light the lamp. "
    "def add(a, b): return a + b  # 3.14159"
)
DTYPES = ("float32", "bfloat16", "float16")


def measure_kernels(
    model: Path,
    *,
    quantizations: Sequence[str] = (),
    dtypes: Sequence[str] = DTYPES,
    text: str = TEXT,
    build: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Every kernel of the HF model in the folder `model`, and of ggml with its weights in each of `quantizations`.

    ggml is the bundled one, or that of `build`: a folder with llama.cpp's libraries, or the file of a CPU backend in it.
    Raises ContractError of a model that transformers cannot read in float64, a quantization that ggml does not know, or a
    build that cannot be loaded; EnvironmentFailed without torch.
    """
    try:
        from logitproof.errors import Refusal
        from logitproof.kernels.torch import TorchKernels
    except ImportError as error:
        raise EnvironmentFailed(
            f"kernels are measured with transformers: {error}", remedy="pip install 'logitproof[transformers]'"
        ) from None
    opened = open_model(model, where="MODEL")
    try:
        bench = TorchKernels(model, text)
        kernels: list[Kernel] = []
        for dtype in dtypes:
            say(f"torch in {dtype}")
            kernels += bench.measure(dtype)
        versions, isa = bench.versions, bench.isa
        missing: list[dict[str, str]] = []
        if quantizations:
            say(f"ggml with weights in {', '.join(quantizations)}")
            from logitproof.kernels.ggml import GgmlKernels

            ggml = GgmlKernels(bench, build)
            versions, isa = {**versions, **ggml.ggml.versions}, {**isa, **ggml.ggml.features}
            kernels += ggml.measure_plain()
            kernels += [kernel for quantization in dict.fromkeys(quantizations) for kernel in ggml.measure(quantization)]
            missing = ggml.missing
    except Refusal as refusal:
        raise ContractError(refusal.text, where=refusal.field or str(model), remedy=refusal.remedy) from None
    return {
        "model": model.name,
        "sha256": opened.sha256,
        "tokens": bench.tokens,
        "machine": platform.machine(),
        "versions": versions,
        "isa": isa,
        "kernels": [asdict(kernel) for kernel in kernels],
        "not_measured": missing,
    }


def left(measured: dict[str, Any]) -> list[dict[str, str]]:
    """What was not measured, each reason once for a kernel."""
    return [dict(record) for record in dict.fromkeys(tuple(record.items()) for record in measured["not_measured"])]
