"""A grid as SVG that stands alone or in a page, light or dark as its reader likes."""

from __future__ import annotations

from jinja2 import Environment
from markupsafe import Markup

from logitproof.documents.section import Grid, GridLine
from logitproof.documents.wording import encodable, visible

SIDE = 28
"""Width and height of a square that holds a sign; without any sign in the grid it is `SMALL` wide."""
SMALL = 12
LETTER = 6.6
"""Width of a character at 11 pixels, on average."""
NAME = 30
"""Characters of a line's name that are shown."""
STYLE = """
.lp-grid { --ink: #1b1f24; --none: #eef0f2; --right: #d9ecdf; --carried: #fbe9a7; --tie: #d3e3f8; --wrong: #b3261e;
  --unknown: #e6d6f2; --on-wrong: #fff; font: 11px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { .lp-grid { --ink: #e4e8ec; --none: #262c33; --right: #1f4a2d; --carried: #6b5a12;
  --tie: #234468; --wrong: #ff8a80; --unknown: #4b2f63; --on-wrong: #14171a } }
.lp-grid text { fill: var(--ink) } .lp-grid g > .wrong + text { fill: var(--on-wrong) }
.lp-grid .none { fill: var(--none) } .lp-grid .right { fill: var(--right) } .lp-grid .carried { fill: var(--carried) }
.lp-grid .tie { fill: var(--tie) } .lp-grid .wrong { fill: var(--wrong) } .lp-grid .unknown { fill: var(--unknown) }
"""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" class="lp-grid" width="{{ width }}" height="{{ height }}"
 viewBox="0 0 {{ width }} {{ height }}" role="img" aria-label="{{ grid.alt|shown }}"><style>{{ style }}</style>
{% for name in grid.columns %}{% if name %}
{%- set x = left + wide * (loop.index0 + 0.7) %}
<text transform="translate({{ x }} {{ top - 6 }}) rotate({{ turn }})">{{ name|shown }}</text>
{% endif %}{% endfor %}{% for line in grid.rows %}{% set y = top + side * loop.index0 %}
<text x="0" y="{{ y + 18 }}">{{ line.name|named }}</text>
{% for field in line.fields %}{% if field %}{% set x = left + wide * loop.index0 %}<g><title>{{ field.title|shown }}</title>
<rect class="{{ field.shade }}" x="{{ x }}" y="{{ y }}" width="{{ wide - 1 }}" height="{{ side - 1 }}"/>
{%- if field.text %}<text x="{{ x + (wide - 1) / 2 }}" y="{{ y + 18 }}" text-anchor="middle">{{ field.text|shown }}</text>
{%- endif %}</g>
{% endif %}{% endfor %}{% endfor %}{% for shade, text in grid.legend %}
<rect class="{{ shade }}" x="{{ 260 * loop.index0 }}" y="{{ height - 20 }}" width="14" height="14"/>
<text x="{{ 260 * loop.index0 + 20 }}" y="{{ height - 8 }}">{{ text|shown }}</text>
{% endfor %}</svg>
"""


def svg(grid: Grid) -> Markup:
    """The picture; every text in it is escaped."""
    environment = Environment(autoescape=True)
    environment.filters.update({"shown": _shown, "named": lambda name: _shown(_short(name))})
    has_signs = any(field and field.text for line in grid.rows for field in line.fields)
    wide = SIDE if has_signs else SMALL
    left = 16 + LETTER * max((min(len(_shown(line.name)), NAME) for line in grid.rows), default=0)
    turned = any(len(name) > 3 for name in grid.columns)
    longest = max((len(_shown(name)) for name in grid.columns), default=0)
    top = 20 + (LETTER * longest if turned else 0)
    made = environment.from_string(SVG).render(
        grid=grid, style=STYLE, side=SIDE, wide=wide, left=round(left), top=round(top), turn=-60 if turned else 0,
        width=round(max(left + wide * _columns(grid.rows) + 100, 260 * len(grid.legend))),
        height=round(top + SIDE * len(grid.rows) + 36),
    )  # fmt: skip
    return Markup(made)  # noqa: S704 rendered with escapes


def _columns(rows: tuple[GridLine, ...]) -> int:
    return max((len(line.fields) for line in rows), default=0)


def _shown(text: str) -> str:
    return visible(encodable(text))


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"
