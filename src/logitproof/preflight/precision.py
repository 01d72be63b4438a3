"""Types that a computation runs in: KV cache, activations, and what an engine said of them when it loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from logitproof.contract.contract import EngineUse, Reference
from logitproof.preflight import Check, Finding, Seen, Setting, Setup
from logitproof.protocol.precision import cache_types

WIDE = ("f32", "float32", "fp32", "f64", "float64")
KV = ("kv_type", "kv_type_k", "kv_type_v", "cache_type", "cache_type_k", "cache_type_v", "kv_cache_dtype")
"""Options, and flags of programs without their dashes, that name a type of the KV cache."""
COMPUTE = ("dtype", "torch_dtype", "compute_dtype", "activation_type", "activation_dtype")
SHORT = {"ctk": "cache_type_k", "ctv": "cache_type_v"}
REMEDY_KV = "ask for a float32 KV cache, or compare this cell with a reference that has the same"
REMEDY = "compute the reference in float32 or float64, or say why not with `intended:` beside its options"


class Precision(Check):
    """KV-cache and activation types of both engines; full-precision cells want float32 in all of them."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF401": "a KV cache narrower than float32 where float32 was asked for",
        "PF402": "activations narrower than float32 where float32 was asked for",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        uses = (setup.reference_use, setup.candidate_use)
        for code, names, what, remedy in (
            ("PF401", KV, "KV cache type", REMEDY_KV),
            ("PF402", COMPUTE, "activation type", REMEDY),
        ):
            asked = [_asked(use, names) for use in uses]
            shown = _shown(asked[0]), _shown(asked[1])
            narrow = [[pair for pair in pairs if not _is_wide(pair[1])] for pairs in asked]
            # A reference must not be the coarser side; a candidate may be, unless its label promises float32.
            bad = [bool(narrow[0]) and (setup.is_full_precision or not narrow[1]), bool(narrow[1]) and setup.is_full_precision]
            bad[0] = bad[0] and not _is_intended(setup.reference_use)
            yield Setting(what, *shown, "differs" if any(bad) else "listed")
            for name, wrong, pairs in zip(("reference", setup.candidate_name), bad, narrow, strict=True):
                if wrong:
                    field = f"{name}.options.{pairs[0][0]}"
                    yield Finding(code, what, shown[0], shown[1], "contract", field, remedy, f"{pairs[0][1]} in {name}")
        yield from _quantized_activations(setup)

    def look(self, seen: Seen) -> Iterator[Finding]:
        """What an engine says is in effect, whatever it was asked for."""
        if not seen.is_full_precision:
            return
        for side, trace in (("reference", seen.reference), ("candidate", seen.candidate)):
            kinds = sorted(kind for kind in cache_types(trace.details) if not _is_wide(kind))
            if kinds and not (side == "reference" and seen.is_intended):
                text = f"{kinds[0]} is in effect in the {side}"
                yield Finding("PF401", "KV cache type", "float32", kinds[0], trace.engine, "details.kv_types", REMEDY_KV, text)


def _quantized_activations(setup: Setup) -> Iterator[Setting | Finding]:
    """ggml multiplies quantized weights with activations that it quantizes to 8 bits first."""
    if setup.original.format != "gguf" or setup.reference_use.engine != "llamacpp" or _is_intended(setup.reference_use):
        return
    if setup.candidate_use.engine == setup.reference_use.engine:
        # Both round alike: which of two files is nearer to the other is a fair question, and a quantizer's everyday one.
        rounded = "8-bit, as ggml's kernels do it"
        yield Setting("activation type", rounded, rounded, "same", "the same kernels on both sides")
        return
    kinds = sorted({tensor.tensor_type.name for tensor in setup.original.reader.tensors} - {"F32", "F16", "BF16"})
    if kinds:
        yield Finding(
            "PF402", "activation type", "8-bit, as ggml's kernels do it", ", ".join(kinds), setup.original.path.name, "tensors",
            "let a reference that dequantizes read these weights (transformers does)", "the reference's kernels quantize",
        )  # fmt: skip


def _is_intended(use: EngineUse) -> bool:
    """Whether the contract says why its reference is narrower than float32 on purpose."""
    return isinstance(use, Reference) and use.intended is not None


def options_of(use: EngineUse) -> Iterator[tuple[str, Any]]:
    """Every option of an engine, and every flag with its value in a program's argv."""
    for name, value in use.options.items():
        if name == "argv" and isinstance(value, list):
            yield from _flags([str(item) for item in value])
        elif isinstance(value, dict):
            yield from value.items()
        else:
            yield name, value


def _flags(argv: list[str]) -> Iterator[tuple[str, str]]:
    for at, word in enumerate(argv):
        if not word.startswith("-"):
            continue
        name, sign, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        after = argv[at + 1] if at + 1 < len(argv) else ""
        yield SHORT.get(name, name), value if sign else after


def _asked(use: EngineUse, names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in options_of(use) if name in names and value is not None]


def _is_wide(kind: str) -> bool:
    return re.sub(r"^torch\.", "", kind.lower()) in (*WIDE, "auto", "default")


def _shown(asked: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked) or "the engine's default"
