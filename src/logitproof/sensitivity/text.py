"""What sensitivity found: as a document, as an answer, and the files of both."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.pages import svg, write_pages
from logitproof.documents.section import Chart, Column, Line, Row, Section, Series, Table, Text, Verdict
from logitproof.files.atomic import write_atomically
from logitproof.sensitivity.measure import Cost
from logitproof.sensitivity.plan import tensor_type_file
from logitproof.sensitivity.sensitivity import Sensitivity
from logitproof.sensitivity.types import bytes_in, type_of

KIND = "sensitivity"
FLOOR = 1e-12
"""Nats below which everything is drawn alike: a logarithm of 0 has no place."""
TOP = 20
"""Tensors in the first table; the others stand in the next one, which is folded away."""
DRAWN = 8
"""Kinds in the picture, the dearest."""
FILE_TYPES = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ3_S", "IQ4_NL", "IQ4_XS",
    "TQ1_0", "TQ2_0",
)  # fmt: skip
"""Types of tensors by whose names llama-quantize makes a whole file in blocks."""
COLUMNS = (
    Column("what"),
    Column("type"),
    Column("MB", "number"),
    Column("KL alone", "number"),
    Column("95 % over windows", "number"),
    Column("largest", "number"),
    Column("saved where it is exact", "number"),
    Column("KL a MB", "number"),
)


def document(measured: Sensitivity, plan_file: Path | None = None) -> Document:
    """The dearest first: tensors, layers, kinds, the plan, and a picture by layer."""
    tensors = _rows(measured, "tensor")
    sections: list[Section] = [Text(_about(measured)), Table(COLUMNS, _rows(measured, "all"), "everything at once")]
    sections.append(Table(COLUMNS, tensors[:TOP], f"tensors, the {min(TOP, len(tensors))} dearest of {len(tensors)}"))
    sections.append(Table(COLUMNS, _rows(measured, "kind"), "kinds"))
    sections.append(picture(measured))
    sections.append(Table(COLUMNS, _rows(measured, "layer"), "layers", detail=True))
    if len(tensors) > TOP:
        sections.append(Table(COLUMNS, tensors[TOP:], "the other tensors", detail=True))
    for kind in measured.types[1:]:
        sections.append(Table(COLUMNS, _rows(measured, "tensor", kind), f"tensors in {kind}", detail=True))
    if measured.plan is not None:
        sections += _plan(measured)
    return Document(f"Sensitivity of {measured.model}", verdict(measured), tuple(sections), _next(measured, plan_file))


def verdict(measured: Sensitivity) -> Verdict:
    """The dearest tensor; there is no pass, since nobody has said how near is near enough."""
    dearest, whole = measured.of("tensor")[0], measured.of("all")[0]
    alone = f"{dearest.unit.name}: {_nats(dearest.mean)} nats alone"
    reason = f"dearest in {measured.types[0]} is {alone}, all at once {_nats(whole.mean)}"
    if measured.plan is not None:
        reason += f"; the plan of {measured.plan.bytes / 1e6:.1f} MB {_nats(measured.plan.measured.mean)}"
    return Verdict("MEASURED", reason)


def answer(measured: Sensitivity) -> Answer:
    """The file of a sensitivity."""
    plan = measured.plan
    data: dict[str, Any] = {
        "model": measured.model,
        "sha256": measured.sha256,
        "types": list(measured.types),
        "text": measured.text,
        "windows": measured.windows,
        "tokens": measured.tokens,
        "positions": measured.positions,
        "weights": measured.weights,
        "fixed_bytes": measured.fixed,
        "costs": [_record(measured, cost) for cost in measured.costs],
        "plan": None
        if plan is None
        else {
            "budget": plan.budget,
            "bytes": plan.bytes,
            "bits_per_weight": 8 * plan.bytes / measured.weights,
            "predicted_kl": plan.predicted,
            "kl": plan.measured.mean,
            "interval": plan.measured.interval,
            "types": plan.types,
        },
    }
    return Answer(KIND, measured.model, 0, data)


def picture(measured: Sensitivity) -> Chart:
    """A line a kind over the layers; the vertical axis is logarithmic."""
    points: dict[str, list[tuple[float, float]]] = {}
    tensors = {tensor.name: tensor for tensor in measured.tensors}
    for cost in measured.of("tensor"):
        tensor = tensors[cost.unit.name]
        if tensor.layer is not None:
            points.setdefault(tensor.kind, []).append((float(tensor.layer), max(cost.mean, FLOOR)))
    kept = [kind.unit.name for kind in measured.of("kind") if kind.unit.name in points][:DRAWN]
    series = tuple(Series(kind, tuple(sorted(points[kind]))) for kind in kept)
    listed = "; ".join(f"{cost.unit.name} {_nats(cost.mean)}" for cost in measured.of("layer")[:10])
    alt = f"KL divergence of each tensor alone in {measured.types[0]} over the layers, a line a kind. Dearest layers: {listed}."
    return Chart("lines", series, "layer", "KL alone, nats", alt, "by layer and kind", logarithmic=True)


def write(folder: Path, made: Answer, page: Document) -> Path:
    """sensitivity.json and .svg, report.html and report.md; the page that people open."""
    made.write(folder / "sensitivity.json")
    for section in page.sections:
        if isinstance(section, Chart):
            write_atomically(folder / "sensitivity.svg", svg(section))
    return write_pages(page, folder)


def write_plan(path: Path, measured: Sensitivity) -> None:
    """The plan as llama-quantize reads it."""
    assert measured.plan is not None
    write_atomically(path, tensor_type_file(measured.plan.types))


def _about(measured: Sensitivity) -> tuple[Line, ...]:
    lines = [
        Line(
            f"{measured.positions} positions: {measured.windows} windows of {measured.tokens} tokens of {measured.text}, "
            f"the first of each left out; {len(measured.tensors)} tensors can be quantized, {measured.weights:,} weights in all"
        ),
        Line("everything is computed in float32 from dequantized values: what an engine's kernels add is no part of it"),
    ]
    if measured.quantized:
        text = "the weights are quantized already: what that cost is not counted, and a tensor costs nothing in its own type"
        lines.append(Line(f"{text}; name the model that they were made from", "unsure"))
    if measured.windows < 10:
        lines.append(Line(f"{measured.windows} windows make rough intervals: units that overlap are not told apart", "unsure"))
    changed = sorted({(kind, type_of(tensor, kind)) for kind in measured.types for tensor in measured.tensors})
    if short := [f"{kind} became {made}" for kind, made in changed if kind != made]:
        lines.append(Line(f"rows that are no whole blocks, as llama.cpp does it: {', '.join(short)} in some tensors"))
    return tuple(lines)


def _rows(measured: Sensitivity, group: str, kind: str = "") -> tuple[Row, ...]:
    but = {cost.unit.name: cost.mean for cost in measured.of(group, but=True, kind=kind)}
    kinds = measured.types if group == "all" else (kind or measured.types[0],)
    rows = []
    for asked in kinds:
        whole = measured.of("all", kind=asked)[0].mean
        for cost in measured.of(group, kind=asked):
            size = _bytes(measured, cost)
            saved = _nats(whole - but[cost.unit.name]) if cost.unit.name in but else ""
            types = sorted({type_of(tensor, asked) for tensor in measured.tensors if _is_in(cost, tensor)})
            interval = " to ".join(map(_nats, cost.interval)) if cost.interval else ""
            megabytes = size / 1e6
            cells = (
                cost.unit.name or "all",
                "+".join(types),
                f"{megabytes:.2f}",
                _nats(cost.mean),
                interval,
                _nats(cost.largest),
            )
            rows.append(Row((*cells, saved, _nats(cost.mean / megabytes))))
    return tuple(rows)


def _plan(measured: Sensitivity) -> list[Section]:
    plan = measured.plan
    assert plan is not None
    interval = f" (95 % over windows {' to '.join(map(_nats, plan.measured.interval))})" if plan.measured.interval else ""
    lines = [
        Line(
            f"budget {plan.budget / 1e6:.2f} MB, used {plan.bytes / 1e6:.2f} MB, "
            f"{8 * plan.bytes / measured.weights:.2f} bits a weight; "
            "metadata and vocabulary of the file come on top"
        ),
        Line(
            f"KL measured in one pass {_nats(plan.measured.mean)} nats{interval}; costs alone add up to {_nats(plan.predicted)}"
        ),
    ]
    lines += [
        Line(f"all in {kind}: {measured.bytes_in(kind) / 1e6:.2f} MB, {_nats(measured.of('all', kind=kind)[0].mean)} nats")
        for kind in measured.types
    ]
    columns = (Column("tensor"), Column("type"), Column("MB", "number"))
    shapes = {tensor.name: tensor.shape for tensor in measured.tensors}
    rows = tuple(Row((name, kind, f"{bytes_in(kind, shapes[name]) / 1e6:.2f}")) for name, kind in plan.types.items())
    return [Text(tuple(lines), "the plan"), Table(columns, rows, "types of the plan", detail=True)]


def _next(measured: Sensitivity, plan_file: Path | None) -> str:
    if measured.plan is None or plan_file is None:
        return ""
    # the tool overrides types only where the type of the whole file is a quantized one
    words = ["llama-quantize", "--tensor-type-file", str(plan_file), "MODEL-F32.gguf", "OUT.gguf", file_type(measured.types)]
    return shlex.join(words)


def file_type(kinds: Sequence[str]) -> str:
    """The type of a whole file that llama-quantize takes for these of its tensors: the first that has a name there."""
    kind = next((kind for kind in kinds if kind in FILE_TYPES), "Q8_0")
    return f"{kind}_S" if kind in ("Q3_K", "Q4_K", "Q5_K") else kind


def _record(measured: Sensitivity, cost: Cost) -> dict[str, Any]:
    unit = cost.unit
    return {
        "group": unit.group,
        "name": unit.name,
        "type": unit.type,
        "all_but": unit.but,
        "bytes": _bytes(measured, cost),
        "kl": cost.mean,
        "interval": cost.interval,
        "largest": cost.largest,
    }


def _bytes(measured: Sensitivity, cost: Cost) -> int:
    """Bytes of the unit's own tensors in its type, of those that are left exact where it is turned round."""
    kind = cost.unit.type
    return sum(bytes_in(type_of(tensor, kind), tensor.shape) for tensor in measured.tensors if _is_in(cost, tensor))


def _is_in(cost: Cost, tensor: Any) -> bool:
    unit = cost.unit
    return (
        unit.group == "all" or unit.name == {"tensor": tensor.name, "layer": str(tensor.layer), "kind": tensor.kind}[unit.group]
    )


def _nats(value: float) -> str:
    return f"{value:.3g}"
