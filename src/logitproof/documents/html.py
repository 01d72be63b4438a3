"""A document as one HTML page without anything to fetch, light or dark as its reader likes.

A page has a script where there is something to move about in or to choose from, and no other script may run in it: the
policy of the page names ours by its hash. The inside of a notebook has none.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from logitproof.documents import chart, grid
from logitproof.documents.section import Chart, Explorer, Grid, Page, Table, Text
from logitproof.documents.wording import encodable, plain, visible

WHOLE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
 content="{{ policy }}">
<title>{{ page.verdict.status|shown }}: {{ page.title|shown }}</title><style>{{ style }}</style></head>
<body class="logitproof">{% if site %}{{ navigation }}{% endif %}<main>{{ body }}</main>
{%- if script %}<script>{{ script }}</script>{% endif %}</body></html>
"""
POLICY = ("default-src 'none'", "style-src 'unsafe-inline'", "form-action 'self'", "base-uri 'none'")
FRAGMENT = '<style>{{ style }}</style><div class="logitproof">{{ body }}</div>'


@dataclass(frozen=True)
class Site:
    """What a page of a server has beside its document: a way back, runs to set side by side, and runs that go on."""

    choices: tuple[str, ...] = ()
    live: tuple[str, ...] | None = None


def whole(page: Page, site: Site | None = None) -> str:
    """One page that stands alone, or is one of a server's; every text in it is escaped."""
    script = asset("tables.js") + asset("page.js") if site or _is_interactive(page) else Markup("")
    policy = [*POLICY, f"script-src 'sha256-{_sha256(script)}'"] if script else list(POLICY)
    policy += ["connect-src 'self'"] if site else []
    navigation = Markup(_environment().get_template("site.html").render(site=site))  # noqa: S704 rendered with escapes
    return _environment().from_string(WHOLE).render(
        page=page, body=_body(page, bool(script)), style=asset("page.css"), script=script, site=site, navigation=navigation,
        policy=Markup("; ".join(policy)),  # noqa: S704 ours, and a hash
    )  # fmt: skip


def fragment(page: Page) -> str:
    """The same inside of another page, such as a notebook's, without a script."""
    return _environment().from_string(FRAGMENT).render(body=_body(page, False), style=asset("page.css"))


@functools.cache
def asset(name: str) -> Markup:
    """A file of ours that becomes part of a page as it is."""
    return Markup(resources.files(__package__).joinpath("assets", name).read_text("utf-8"))  # noqa: S704 our own


def embedded(data: Mapping[str, Any]) -> Markup:
    """Data for a script of the page: nothing in it can end the element that holds it."""
    return htmlsafe_json_dumps(_readable(plain(data)), separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _body(page: Page, interactive: bool) -> Markup:
    return Markup(_environment().get_template("page.html").render(page=page, interactive=interactive))  # noqa: S704 escaped


def _is_interactive(page: Page) -> bool:
    return any(isinstance(section, Explorer) or (isinstance(section, Table) and section.filters) for section in page.sections)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _readable(value: Any) -> Any:
    """The same data with every text made visible, since a script only sets texts and escapes none."""
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, dict):
        return {_shown(key): _readable(inner) for key, inner in value.items()}
    return [_readable(inner) for inner in value] if isinstance(value, list) else value


def _shown(text: str) -> str:
    return visible(encodable(text))


def _drawn(picture: Grid | Chart) -> Markup:
    return grid.svg(picture) if isinstance(picture, Grid) else chart.svg(picture)


@functools.cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, loader=PackageLoader(__package__, "assets"))
    environment.filters.update({"shown": _shown, "embedded": embedded, "drawn": _drawn})
    kinds = {"text": Text, "table": Table, "grid": Grid, "chart": Chart, "explorer": Explorer}
    environment.tests.update({name: lambda section, kind=kind: isinstance(section, kind) for name, kind in kinds.items()})
    return environment
