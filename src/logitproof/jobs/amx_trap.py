"""A known trap of llama.cpp: compiled by GCC 12 for AMX, it dies at the first decode of quantized weights.

The compiler drops the stores to the tile configuration, so the first tile instruction faults. A tiny model with random
Q8_0 weights is decoded in a worker, with the repacked weights that the AMX kernels need; a worker that dies of a signal
has fallen into it. Where the processor has no AMX the kernels are not chosen, and nothing is said of the build.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from logitproof.contract.isa import lacking
from logitproof.errors import EngineDied, LogitproofError
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec

WIDTH, FFN, VOCABULARY, HEADS = 64, 128, 64, 2
"""Multiples of 32, which AMX kernels and blocks of Q8_0 ask for."""
SIGNALS = ("SIGSEGV", "SIGILL", "SIGBUS")
REMEDY = "build llama.cpp with clang or a newer GCC, take prebuilt variants, or keep `repack` off, as it is by default"


@dataclass(frozen=True)
class Trap:
    """`absent`: it decoded with AMX; `untested`: why it could not be tried; `sprung`: how it died."""

    state: Literal["absent", "untested", "sprung"]
    text: str
    remedy: str = ""


def llama_spec(library: str | None = None) -> Spec:
    """llama.cpp as it would fall into the trap; `library` is a build of it, else the one that the bindings have."""
    return Spec("llamacpp", {"repack": True, **({"library": library} if library else {})}, timeout=60.0)


def spring(spec: Spec) -> Trap:
    """Decode a tiny quantized model with one build of llama.cpp, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="logitproof-") as folder:
        model = Path(folder, "tiny-Q8_0.gguf")
        try:
            write_tiny(model)
            with Session(spec, spec.engine) as session:
                worker, _ = session.loaded(model)
                scored = worker.score([1, 2, 3], "decode", Path(folder, "logits.bin"))
        except EngineDied as error:
            name = next((name for name in SIGNALS if name in error.text), "")
            if not name:
                return Trap("untested", error.text.splitlines()[0])
            text = f"it dies of {name} at the first quantized decode: the AMX kernels of a build by GCC 12 do"
            return Trap("sprung", text, REMEDY)
        except LogitproofError as error:
            return Trap("untested", error.text.splitlines()[0], error.remedy)
    if "AMX" in scored.isa.get("weights", "").split():
        return Trap("absent", "it decodes quantized weights with its AMX kernels")
    reason = lacking("amx") or "this build has no AMX kernels, or does not choose them"
    return Trap("untested", f"it decodes quantized weights, and without AMX: {reason}")


def write_tiny(path: Path) -> None:
    """A Llama of one layer with random Q8_0 weights and no tokenizer."""
    import gguf
    import numpy as np

    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("none")
    quantized = gguf.GGMLQuantizationType.Q8_0
    attention = {f"blk.0.attn_{name}.weight": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    mlp = {"blk.0.ffn_gate.weight": (FFN, WIDTH), "blk.0.ffn_up.weight": (FFN, WIDTH), "blk.0.ffn_down.weight": (WIDTH, FFN)}
    ends = {"token_embd.weight": (VOCABULARY, WIDTH), "output.weight": (VOCABULARY, WIDTH)}
    for name, shape in {**ends, **attention, **mlp}.items():
        data = random.normal(0, 0.1, shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(data, quantized), raw_dtype=quantized)
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        writer.add_tensor(name, np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
