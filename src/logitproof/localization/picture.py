"""The picture of a localization: a field for each operation of each layer, dark where its own error is."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from logitproof.documents.section import Picture
from logitproof.documents.wording import visible
from logitproof.localization.localize import Row
from logitproof.localization.located import Located
from logitproof.protocol import taps

SIDE = 28
"""Width and height of a field."""
LEFT, TOP = 120, 150
FILLS = {"same": "var(--right)", "carried": "var(--carried)", "differs": "#c4321f"}
LEGEND = (("same", "right"), ("carried", "right, on input that was already wrong"), ("differs", "wrong by itself"))
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="{{ height }}" role="img">
{% for name in names %}<text fill="currentColor" transform="translate({{ name.x }} {{ top }}) rotate(-60)">
{{- name.text }}</text>
{% endfor %}{% for line in lines %}<text fill="currentColor" x="0" y="{{ line.y + 18 }}">{{ line.text }}</text>
{% for field in line.fields %}<g><title>{{ field.title }}</title>
<rect x="{{ field.x }}" y="{{ line.y }}" width="{{ side - 1 }}" height="{{ side - 1 }}" fill="{{ field.fill }}"/>
<text x="{{ field.x + side // 2 }}" y="{{ line.y + 18 }}" text-anchor="middle" fill="{{ field.ink }}">
{{- field.text }}</text></g>
{% endfor %}{% endfor %}{% for key in legend %}
<rect x="{{ key.x }}" y="{{ height - 20 }}" width="14" height="14" fill="{{ key.fill }}"/>
<text fill="currentColor" x="{{ key.x + 20 }}" y="{{ height - 8 }}">{{ key.text }}</text>
{% endfor %}</svg>"""


def picture(candidate: Located) -> Picture:
    """Layers below one another, operations beside one another, and last what belongs to no layer."""
    rows = {row.tap: row for row in candidate.localization.rows}
    leaves = [leaf for leaf in taps.LAYER if any(taps.split(name)[1] == leaf for name in rows)]
    layers = sorted({layer for name in rows if (layer := taps.split(name)[0]) is not None})
    lines = [(f"layer {layer}", [rows.get(f"layers.{layer}.{leaf}") for leaf in leaves]) for layer in layers]
    lines += [(name, [row]) for name, row in rows.items() if taps.split(name)[0] is None]
    height = TOP + SIDE * len(lines) + 36
    svg = Environment(autoescape=True).from_string(SVG).render(
        names=[{"x": LEFT + SIDE * n + 18, "text": leaf} for n, leaf in enumerate(leaves)],
        lines=[_line(text, TOP + SIDE * n, fields) for n, (text, fields) in enumerate(lines)],
        legend=[{"x": 260 * n, "fill": FILLS[status], "text": text} for n, (status, text) in enumerate(LEGEND)],
        width=max(LEFT + SIDE * len(leaves) + 100, 260 * len(LEGEND)),
        height=height,
        top=TOP - 6,
        side=SIDE,
    )  # fmt: skip
    return Picture(Markup(svg), _alt(candidate), f"{candidate.name}, operation by operation", detail=True)  # noqa: S704 escaped


def _alt(candidate: Located) -> str:
    found = candidate.localization
    counts = {status: sum(row.status == status for row in found.rows) for status in FILLS}
    wrong = f": {', '.join(found.broken)}" if found.broken else ""
    return (
        f"Of {len(found.rows)} operations {counts['same']} are right, {counts['carried']} are right on input that was already "
        f"wrong, {counts['differs']} are wrong by themselves{wrong}. A number is the power of ten of the relative error."
    )


def _line(text: str, y: int, rows: list[Row | None]) -> dict[str, Any]:
    return {"text": visible(text), "y": y, "fields": [_field(row, LEFT + SIDE * n) for n, row in enumerate(rows) if row]}


def _field(row: Row, x: int) -> dict[str, Any]:
    error = row.accumulated if row.isolated is None else row.isolated
    text = "∞" if not math.isfinite(error) else "" if error == 0 else f"{math.floor(math.log10(error))}"
    isolated = "not known" if row.isolated is None else f"{row.isolated:.2g}"
    title = visible(f"{row.tap}: own error {isolated}, accumulated {row.accumulated:.2g}")
    ink = "#fff" if row.status == "differs" else "currentColor"
    return {"x": x, "fill": FILLS.get(row.status, "var(--soft)"), "ink": ink, "title": title, "text": text}
