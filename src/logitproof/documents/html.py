"""A document as one HTML page without scripts and without anything to fetch, light or dark as its reader likes."""

from __future__ import annotations

from jinja2 import Environment
from markupsafe import Markup

from logitproof.documents.section import Page, Picture, Table, Text
from logitproof.documents.wording import encodable, visible

STYLE = """
.logitproof { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d8dce1; --soft: #f3f5f7; --quiet: #5b6570;
  --good: #17652f; --bad: #b3261e; --unsure: #7a3ea8; --carried: #fbe9a7; --right: #d9ecdf;
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
@media (prefers-color-scheme: dark) { .logitproof { --ink: #e4e8ec; --paper: #14171a; --line: #353b42; --soft: #1f2429;
  --quiet: #9aa5b1; --good: #6fcf8c; --bad: #ff8a80; --unsure: #cf9ff5; --carried: #6b5a12; --right: #1f4a2d } }
body.logitproof { margin: 0 auto; max-width: 76rem; padding: 2rem 1rem }
html:has(> body.logitproof) { color-scheme: light dark }
@media (prefers-color-scheme: dark) { html:has(> body.logitproof) { background: #14171a } }
.logitproof h1 { font-size: 1.5rem; margin: 0 0 .5rem } .logitproof h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.logitproof p { margin: .3rem 0; overflow-wrap: anywhere }
.logitproof .verdict { font-size: 1.1rem; padding: .6rem .9rem; border-left: .3rem solid currentColor; background: var(--soft) }
.logitproof .good { color: var(--good) } .logitproof .bad { color: var(--bad) } .logitproof .unsure { color: var(--unsure) }
.logitproof .quiet { color: var(--quiet) } .logitproof .reason { color: var(--ink) }
.logitproof .scroll { overflow-x: auto } .logitproof table { border-collapse: collapse }
.logitproof th, .logitproof td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top }
.logitproof th { color: var(--quiet); font-weight: 500 } .logitproof .notes td { border-bottom: 0; padding-left: 1.5rem }
.logitproof .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.logitproof pre, .logitproof code { font: 13px/1.5 ui-monospace, monospace }
.logitproof pre { background: var(--soft); padding: .8rem; overflow-x: auto }
.logitproof figure { margin: 0 } .logitproof figcaption { color: var(--quiet) }
.logitproof svg { display: block; font-size: 11px }
"""
BODY = """
<h1>{{ page.title|shown }}</h1>
<p class="verdict {{ page.verdict.tone }}"><strong>{{ page.verdict.status|shown }}</strong>
{%- if page.verdict.reason %}<span class="reason">: {{ page.verdict.reason|shown }}</span>{% endif %}</p>
{% for section in page.sections %}<section>
{% if section.title %}<h2>{{ section.title|shown }}</h2>{% endif %}
{% if section is text %}{% if section.verbatim %}<pre>{% for line in section.lines %}{{ line.text|shown }}
{% endfor %}</pre>{% else %}{% for line in section.lines -%}
<p class="{{ line.tone }}" style="margin-left: {{ 1.5 * line.level }}rem">{{ line.text|shown }}</p>
{% endfor %}{% endif %}
{% elif section is table %}<div class="scroll"><table>
<thead><tr>{% for column in section.columns %}<th scope="col" class="{{ column.kind }}">{{ column.title|shown }}</th>
{%- endfor %}</tr></thead><tbody>
{% for row in section.rows %}<tr>{% for cell in row.cells %}{% set kind = section.columns[loop.index0].kind -%}
<td class="{{ kind }}{% if loop.first %} {{ row.tone }}{% endif %}">
{%- if kind == 'code' and cell %}<code>{{ cell|shown }}</code>{% else %}{{ cell|shown }}{% endif %}</td>{% endfor %}</tr>
{% if row.notes %}<tr class="notes"><td colspan="{{ section.columns|length }}">{% for note in row.notes -%}
<p class="{{ note.tone }}" style="margin-left: {{ 1.5 * note.level }}rem">{{ note.text|shown }}</p>{% endfor %}</td></tr>
{% endif %}{% endfor %}</tbody></table></div>
{% else %}<figure class="scroll">{{ section.svg }}<figcaption>{{ section.alt|shown }}</figcaption></figure>
{% endif %}</section>
{% endfor %}
{% if page.next_command %}<p>Next: <code>{{ page.next_command|shown }}</code></p>{% endif %}
"""
WHOLE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ page.verdict.status|shown }}: {{ page.title|shown }}</title><style>"""
    + STYLE
    + """</style></head>
<body class="logitproof">{{ body }}</body></html>
"""
)


def whole(page: Page) -> str:
    """One page that stands alone; every text in it is escaped."""
    made = _environment().from_string(WHOLE)
    return made.render(page=page, body=_body(page))


def fragment(page: Page) -> str:
    """The same inside of another page, such as a notebook's."""
    made = _environment().from_string(f'<style>{STYLE}</style><div class="logitproof">{{{{ body }}}}</div>')
    return made.render(body=_body(page))


def _body(page: Page) -> Markup:
    return Markup(_environment().from_string(BODY).render(page=page))  # noqa: S704 rendered with escapes


def _environment() -> Environment:
    environment = Environment(autoescape=True)
    environment.filters["shown"] = lambda text: visible(encodable(text))
    kinds = {"text": Text, "table": Table, "picture": Picture}
    environment.tests.update({name: lambda section, kind=kind: isinstance(section, kind) for name, kind in kinds.items()})
    return environment
