"""The weights, tensor by tensor: one side's are the other's, or a known quantization of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.gguf.layout import Layout
from logitproof.gguf.side import Side
from logitproof.gguf.tensors import FolderTensors, GgufTensors, Tensors, chunks, row_count, sampled, tensors_of
from logitproof.gguf.write import account_for_tensors
from logitproof.preflight import ROTATED, Check, Finding, Setting, Setup, file_of, named, short
from logitproof.preflight._explain import explain, is_constant
from logitproof.preflight._rotation import Turned, find_rotation
from logitproof.weights.checkpoint import Array
from logitproof.weights.model import stray_weights
from logitproof.weights.rotate import ONE_CENTRED

WHOLE_BELOW = 1 << 22
"""Values up to which a tensor is compared whole; of a larger one `SAMPLED` rows are."""
SAMPLED = 512
CHUNK = 1 << 20
ROW_FACTOR = 3.0
"""How much worse than a whole tensor one row of it may be quantized."""
FEW = 0.05
"""Share of the rows up to which they are named and not the tensor."""
FAINT = 0.05
"""Rows fainter than this share of the median are measured against the median."""
LIMITS = {
    "F64": 1e-6, "F32": 1e-6, "F16": 1e-3, "BF16": 6e-3, "Q8_0": 0.015, "Q8_1": 0.015, "Q8_K": 0.015, "Q6_K": 0.05,
    "Q5_0": 0.1, "Q5_1": 0.1, "Q5_K": 0.09, "Q4_0": 0.2, "Q4_1": 0.18, "Q4_K": 0.18, "IQ4_NL": 0.18, "IQ4_XS": 0.18,
    "Q3_K": 0.32, "IQ3_S": 0.4, "IQ3_XXS": 0.45, "Q2_K": 0.5, "MXFP4": 0.3, "NVFP4": 0.25,
    "INT8": 0.015, "INT4": 0.25, "INT3": 0.5, "NF4": 0.2, "FP4": 0.3, "F8_E4M3": 0.06, "F8_E5M2": 0.12,
}  # fmt: skip
"""Relative RMS error of a tensor that its type explains: about twice what Gaussian weights show."""
COARSEST = 0.9
COARSEST_EMBEDDING = 0.35
"""Relative error of an embedding up to which a rotation explains it: a quantization of four bits and up leaves less."""
EXACT = ("F64", "F32", "F16", "BF16")
"""Types of a checkpoint, which is what it is."""
CODES = {"rope_freqs.weight": "PF202", "output.weight": "PF208", "lm_head.weight": "PF208"}
"""Tensors that are a setting: their absence has a name of its own."""
REMEDY = "convert these weights again, or name the checkpoint that the file was made from"


@dataclass(frozen=True)
class Difference:
    """One tensor that is not what it should be."""

    code: str
    text: str
    tensor: str
    error: float = 0.0


class Weights(Check):
    """Every tensor of both sides: accounted for, finite, not left at its initial value, equal within its type."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF101": "a tensor is missing",
        "PF102": "a tensor has no place",
        "PF103": "a tensor has another shape",
        "PF104": "a tensor holds other values",
        "PF105": "a tensor holds the right values in another order",
        "PF106": "a tensor was left at an initial value",
        "PF107": "a tensor holds NaN or infinities",
        "PF208": "the output matrix is tied on one side only",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        reference, candidate = setup.original, setup.file
        if "other" in (reference.format, candidate.format):
            yield Setting(
                "weights", reference.format, candidate.format, "not compared", "only its own engine can read such a file"
            )
            return
        yield from _accounted(reference)
        yield from _beside(setup)
        if candidate.format == "safetensors" and candidate.path != reference.path:
            yield from _accounted(candidate)
        if reference.path == candidate.path:
            yield from _compared(_tensors(reference, own=True), None, setup)
            return
        by_layout = reference.format == "safetensors" and candidate.format == "gguf"
        if by_layout and not isinstance(reference.layout, Layout):
            yield Setting("weights", reference.architecture, candidate.architecture, "not compared", "of known families only")
            return
        yield from _compared(_tensors(reference, own=not by_layout), _tensors(candidate, own=True), setup)


def _tensors(side: Side, *, own: bool) -> Tensors:
    """Under GGUF names where `own` is not asked for."""
    if side.format == "gguf":
        return GgufTensors(side.reader)
    return FolderTensors(side.path) if own else tensors_of(side.path, side.layout)


def _accounted(side: Side) -> Iterator[Finding]:
    """Every tensor of a known family's checkpoint has its place, and no place is empty."""
    if side.format != "safetensors" or not isinstance(side.layout, Layout):
        return
    try:
        account_for_tensors(side.layout, FolderTensors(side.path).raw(), side.config, side.path)
    except ModelError as error:
        code = "PF101" if "missing" in error.text else "PF102"
        code = "PF208" if "lm_head" in error.text else code
        tie = f"tie_word_embeddings is {bool(side.config.get('tie_word_embeddings'))}" if code == "PF208" else "–"
        yield Finding(
            code, "checkpoint", error.text, tie, file_of(side.path, "model.safetensors"), error.text.rpartition(": ")[2],
            error.remedy,
        )  # fmt: skip


def _beside(setup: Setup) -> Iterator[Setting]:
    """Weights in a model's folder that are no part of the model; a finding about the model they are not."""
    strays, others = (short(", ".join(_strays(side)) or "none") for side in (setup.original, setup.file))
    if (strays, others) != ("none", "none"):
        yield Setting("weights beside the model", strays, others, "listed", "not named by the model: nobody reads them")


def _strays(side: Side) -> list[str]:
    return stray_weights(side.path) if side.format == "safetensors" else []


def _compared(reference: Tensors, candidate: Tensors | None, setup: Setup) -> Iterator[Setting | Finding]:
    rotation = None if candidate is None else find_rotation(reference, candidate, COARSEST_EMBEDDING)
    if rotation is None:
        yield from _as_they_are(reference, candidate, setup)
        return
    by_folder = setup.file.format == "safetensors"
    centred = by_folder and setup.original.config.get("model_type") in ONE_CENTRED
    yield from _as_they_are(Turned(reference, rotation, centred), candidate, setup, str(rotation))


def _as_they_are(reference: Tensors, candidate: Tensors | None, setup: Setup, turned: str = "") -> Iterator[Setting | Finding]:
    """Every tensor against what it must be; `turned` says what those of the reference were turned by first."""
    differences: list[Difference] = []
    worst, samples = Difference("", "", ""), []
    for name in reference.names if candidate is None else [name for name in reference.names if name in candidate.names]:
        try:
            difference = _alone(reference, name) if candidate is None else _pair(reference, candidate, name)
        except ContractError as error:
            yield Setting(f"weights: {name}", "–", "–", "not compared", error.text)
            continue
        if difference.code:
            differences.append(difference)
        worst = difference if difference.error > worst.error else worst
        if sampled(*_size(reference.shape(name)), WHOLE_BELOW, SAMPLED) is not None:
            samples.append(name)
    if candidate is not None:
        differences += _unpaired(reference, candidate, setup)
    if turned:
        rest = f"{len(differences)} of the other tensors do not fit it" if differences else "every other tensor fits it"
        yield Setting(ROTATED, "none", "rotated", "listed", f"{turned}; {rest}")
    yield _row(reference, candidate, worst, samples, differences)
    yield from _findings(differences, setup)


def _row(
    reference: Tensors, candidate: Tensors | None, worst: Difference, samples: list[str], differences: list[Difference]
) -> Setting:
    note = "all finite, none constant" if candidate is None else "worst relative error "
    if candidate is not None:
        note += f"{worst.error:.1e} ({candidate.kind(worst.tensor)} {worst.tensor})" if worst.error else "0: equal"
    if samples:
        note += f"; of {len(samples)} tensors over {WHOLE_BELOW:,} values {SAMPLED} rows each"
    count = len(reference.names) if candidate is None else len(candidate.names)
    return Setting("weights", f"{len(reference.names)} tensors", f"{count} tensors", "differs" if differences else "same", note)


def _findings(differences: list[Difference], setup: Setup) -> Iterator[Finding]:
    """One finding for all tensors with the same fault."""
    for code, text in dict.fromkeys((difference.code, difference.text) for difference in differences):
        names = [difference.tensor for difference in differences if (difference.code, difference.text) == (code, text)]
        yield Finding(
            code, f"weights of {named(names)}", "as in the checkpoint", text,
            file_of(setup.file.path, "model.safetensors"), names[0], REMEDY,
        )  # fmt: skip


def _unpaired(reference: Tensors, candidate: Tensors, setup: Setup) -> list[Difference]:
    missing = [name for name in reference.names if name not in candidate.names]
    extra = [name for name in candidate.names if name not in reference.names]
    tied = setup.original.format == "safetensors" and setup.original.config.get("tie_word_embeddings")
    differences = [Difference(CODES.get(name, "PF101"), "missing", name) for name in missing]
    for name in extra:
        if name in ("output.weight", "lm_head.weight") and tied:
            source = "token_embd.weight" if name == "output.weight" else "model.embed_tokens.weight"
            if source in candidate.names and _same_rows(candidate, name, source):
                continue
            differences.append(
                Difference("PF208", "has an output matrix of its own, the config ties it to the embedding", name)
            )
        else:
            differences.append(Difference(CODES.get(name, "PF102"), "has no place in the checkpoint", name))
    return differences


def _same_rows(tensors: Tensors, name: str, source: str) -> bool:
    if tensors.shape(name) != tensors.shape(source):
        return False
    index = sampled(*_size(tensors.shape(name)), WHOLE_BELOW, SAMPLED)
    limit = 2 * max(_limit(tensors.kind(tensor)) for tensor in (name, source))
    a, b = tensors.rows(name, index), tensors.rows(source, index)
    return bool(np.linalg.norm(a - b) <= limit * np.linalg.norm(a))


def _alone(tensors: Tensors, name: str) -> Difference:
    """A tensor that both sides read from one file: finite, and no matrix of one value."""
    rows, columns = _size(tensors.shape(name))
    index = sampled(rows, columns, WHOLE_BELOW, SAMPLED)
    low, high = np.inf, -np.inf
    for part in chunks(index, rows, columns, CHUNK):
        values = tensors.rows(name, part)
        if not np.isfinite(values).all():
            return Difference("PF107", "values that are not finite, on both sides", name)
        low, high = min(low, float(values.min(initial=np.inf))), max(high, float(values.max(initial=-np.inf)))
    if rows > 1 and columns > 1 and low == high:
        return Difference("PF106", f"every value is {low:g}", name)
    return Difference("", "", name)


def _pair(reference: Tensors, candidate: Tensors, name: str) -> Difference:
    shapes = reference.shape(name), candidate.shape(name)
    if np.prod(shapes[0]) != np.prod(shapes[1]) or _size(shapes[0]) != _size(shapes[1]):
        return Difference("PF103", f"shape {list(shapes[1])}, expected {list(shapes[0])}", name)
    rows, columns = _size(shapes[0])
    index = sampled(rows, columns, WHOLE_BELOW, SAMPLED)
    errors, norms = [], []
    for part in chunks(index, rows, columns, CHUNK):
        a, b = reference.rows(name, part).astype(np.float64), candidate.rows(name, part).astype(np.float64)
        for side, values in (("reference", a), ("candidate", b)):
            if not np.isfinite(values).all():
                return Difference("PF107", f"values that are not finite, in the {side}", name)
        errors.append(((a - b) ** 2).sum(axis=1))
        norms.append((a**2).sum(axis=1))
    return _verdict(reference, candidate, name, index, np.sqrt(np.concatenate(errors)), np.sqrt(np.concatenate(norms)))


def _verdict(reference: Tensors, candidate: Tensors, name: str, index: Array | None, errors: Array, norms: Array) -> Difference:
    """Judge a tensor by the error [n] and norm [n] of its rows."""
    whole = float(np.linalg.norm(norms))
    error = float(np.linalg.norm(errors)) / whole if whole else float(bool(errors.any()))
    limit = max(
        _limit(kind)
        for kind in (candidate.kind(name), reference.kind(name))
        if kind == candidate.kind(name) or kind not in EXACT
    )
    if isinstance(reference, Turned):
        limit = max(limit, reference.rotation.error)  # what is computed of rounded embeddings is no more exact than they are
    floor = FAINT * float(np.median(norms))
    row = errors / np.maximum(norms, floor) if floor else errors / max(whole, 1e-30)
    bad = np.flatnonzero(row > ROW_FACTOR * limit)
    if error <= limit and not bad.size:
        return Difference(*_initial(reference, candidate, name, index), error)
    if error <= limit or 0 < bad.size <= FEW * len(row):
        at = int(bad[0] if index is None else index[bad[0]])
        text = f"{bad.size} of {len(row)} rows are off, the first is row {at} by {row[bad[0]]:.2g} of its length"
        return Difference("PF104", text, name, error)
    code, text = explain(reference.rows(name, index), candidate.rows(name, index), reference.shape(name))
    return Difference(code, text or f"off by {error:.2g}, its type explains {limit:.2g}", name, error)


def _initial(reference: Tensors, candidate: Tensors, name: str, index: Array | None) -> tuple[str, str, str]:
    """A matrix of one value was never trained, even where both sides agree on it."""
    shape = candidate.shape(name)
    if min(_size(shape)) > 1 and (value := is_constant(candidate.rows(name, index))) is not None:
        return "PF106", f"every value is {value:g}, on both sides", name
    return "", "", name


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    return row_count(shape), int(shape[-1]) if shape else 1


def _limit(kind: str) -> float:
    return LIMITS.get(kind, COARSEST)
