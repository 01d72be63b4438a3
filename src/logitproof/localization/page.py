"""The picture of a localization: one field for each operation of each layer, dark where its own error is."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment

from logitproof.localization.localize import Row
from logitproof.localization.located import Located, Locations
from logitproof.protocol import taps

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Where it starts: {{ names }}</title>
<style>
 body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1b1f24 }
 h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
 .answer { font-size: 1.1rem; font-weight: 600 } .wrong { color: #b3261e } .right { color: #1a6b35 }
 .scroll { overflow-x: auto } table { border-collapse: collapse } td, th { padding: .2rem .5rem; text-align: left }
 .map td { width: 1.6rem; height: 1.5rem; min-width: 1.6rem; padding: 0; text-align: center; font-size: .7rem }
 .map td { border: 1px solid #fff }
 .map th.op { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: 500; font-size: .78rem; padding: .3rem 0 }
 .s0 { background: #e2eee5 } .s1 { background: #fbe9a7 } .s2 { background: #c4321f; color: #fff; font-weight: 700 }
 .none { background: #f4f4f5 }
 .list th, .list td { border-bottom: 1px solid #e3e5e8 } .number { text-align: right; font-variant-numeric: tabular-nums }
 .legend span { display: inline-block; padding: 0 .5rem; margin-right: .4rem }
</style></head><body>
<h1>Where it starts</h1>
<p>Reference: <code>{{ found.reference }}</code>, {{ found.token_ids|length }} tokens, {{ found.mode }}.</p>
{% for one in every %}
<h2>{{ one.name }}</h2>
<p class="answer {{ 'wrong' if one.broken else 'right' }}">{{ one.answer }}</p>
<p class="legend"><span class="s0">right</span><span class="s1">right, on input that was already wrong</span>
<span class="s2">wrong by itself</span> The number is the power of ten of the operation's own relative error.</p>
<div class="scroll"><table class="map">
<tr><th></th>{% for leaf in one.leaves %}<th class="op" scope="col">{{ leaf }}</th>{% endfor %}</tr>
{% for line in one.lines %}<tr><th scope="row">{{ line.name }}</th>
{% for field in line.fields %}<td class="{{ field.kind }}" title="{{ field.title }}">{{ field.text }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% if one.rows %}<h3>Wrong operations</h3><div class="scroll"><table class="list">
<tr>{% for head in ('tap', 'own error', 'expected', 'accumulated', 'layout', 'known bug') %}<th>{{ head }}</th>{% endfor %}</tr>
{% for row in one.rows %}<tr><td><code>{{ row.tap }}</code></td>
{% for value in (row.isolated, row.expected, row.accumulated) %}<td class="number">{{ value }}</td>{% endfor %}
<td>{{ row.suspicion }}</td><td>{{ row.bug }}</td></tr>
{% endfor %}</table></div>{% endif %}
{% if one.growth %}<h3>The residual stream, layer by layer</h3><table class="list">
<tr><th>after</th>
{% for head in ('std, reference', 'std, candidate', 'rms, reference', 'rms, candidate') %}<th>{{ head }}</th>{% endfor %}</tr>
{% for row in one.growth %}<tr><td><code>{{ row.tap }}</code></td>
{% for value in row.numbers %}<td class="number">{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
{% endfor %}
{% if stages %}<h2>All sources, stage by stage</h2><div class="scroll"><table class="list">
<tr>{% for head in ('tap', 'who stands apart', 'by', 'the others among themselves') %}<th>{{ head }}</th>{% endfor %}</tr>
{% for row in stages %}<tr><td><code>{{ row.tap }}</code></td>
<td>{{ row.odd or ('nobody: no two agree' if row.disagree else 'nobody: all agree') }}</td>
<td class="number">{{ '%.2g'|format(row.apart) }}</td><td class="number">{{ '%.2g'|format(row.together) }}</td></tr>
{% endfor %}</table></div>{% endif %}
</body></html>
"""


def page(found: Locations) -> str:
    """One HTML page without scripts; every name and text in it is escaped."""
    every = [_section(one) for one in found.located]
    names = ", ".join(one.name for one in found.located)
    template = Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(found=found, every=every, names=names, stages=found.stages)


def _section(one: Located) -> dict[str, Any]:
    where = one.localization
    rows = {row.tap: row for row in where.rows}
    leaves = [leaf for leaf in taps.LAYER if any(taps.split(name)[1] == leaf for name in rows)]
    numbers = sorted({layer for name in rows if (layer := taps.split(name)[0]) is not None})
    answers = {
        "located": f"The first operation that is wrong by itself is {where.first}.",
        "only accumulated": f"It differs from {where.first} on; single operations could not be judged.",
        "same": f"Every operation is the reference's, as {one.precision} computes it.",
        "nothing compared": "Nothing could be compared.",
    }
    outer = [name for name in rows if taps.split(name)[0] is None]
    lines = [{"name": f"layer {n}", "fields": [_field(rows.get(f"layers.{n}.{leaf}")) for leaf in leaves]} for n in numbers]
    lines += [{"name": name, "fields": [_field(rows[name])]} for name in outer]
    return {
        "name": one.name,
        "broken": where.broken,
        "answer": answers[where.verdict],
        "leaves": leaves,
        "lines": lines,
        "rows": [_listed(rows[tap], one) for tap in where.broken],
        "growth": [
            {
                "tap": row.tap,
                "numbers": [f"{value:.4g}" for pair in zip(row.reference, row.candidate, strict=True) for value in pair],
            }
            for row in where.growth
        ],
    }


def _field(row: Row | None) -> dict[str, str]:
    if row is None:
        return {"kind": "none", "title": "", "text": ""}
    kind = {"same": "s0", "carried": "s1", "differs": "s2"}.get(row.status, "none")
    error = row.accumulated if row.isolated is None else row.isolated
    text = "∞" if not math.isfinite(error) else "" if error == 0 else f"{math.floor(math.log10(error))}"
    isolated = "not known" if row.isolated is None else f"{row.isolated:.2g}"
    return {"kind": kind, "title": f"{row.tap}: own error {isolated}, accumulated {row.accumulated:.2g}", "text": text}


def _listed(row: Row, one: Located) -> dict[str, str]:
    bugs = [str(each) for each in one.explained if each.tap == row.tap]
    return {
        "tap": row.tap,
        "isolated": "" if row.isolated is None else f"{row.isolated:.2g}",
        "expected": f"{row.expected:.1g}",
        "accumulated": f"{row.accumulated:.2g}",
        "suspicion": row.suspicion,
        "bug": ", ".join(bugs),
    }
