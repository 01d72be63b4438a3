"""A chart as SVG that stands alone or in a page, drawn by pygal, whose script and comments are left out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

from logitproof.documents.section import Chart
from logitproof.documents.wording import encodable, legal_xml, visible
from logitproof.files.atomic import content_key

WIDTH, HEIGHT = 860, 320
BELOW = 36
"""Height that pygal takes for a legend beyond the height that it was given."""
LABELS, DECADES = 20, 6
"""Labels along an axis, about."""
LIGHT = ("#b3261e", "#1f5fa8", "#17652f", "#7a3ea8")
DARK = ("#ff8a80", "#8cbcf5", "#6fcf8c", "#cf9ff5")
DASHES = {"solid": "none", "dashed": "7 3", "dotted": "2 3", "dash-dotted": "10 3 2 3"}
"""How the lines are told apart without their colours; a legend says the word."""


def svg(chart: Chart) -> Markup:
    """The picture; pygal escapes every text, and its name is the hash of what it shows."""
    drawn = _scattered(chart) if chart.kind == "points" else _along(chart)
    drawn.uuid = content_key({"chart": repr(chart)})[:12]
    drawn.config.css.append(f"inline:{_css(drawn.uuid)}")
    root = drawn.render_tree()
    for parent in list(root.iter()):
        for script in [child for child in parent if not isinstance(child.tag, str) or child.tag.endswith("script")]:
            parent.remove(script)
    for element in list(root.iter())[1:]:
        element.attrib.pop("id", None)
    root.set("viewBox", f"0 0 {WIDTH} {HEIGHT + BELOW * (len(chart.series) > 1)}")
    root.set("role", "img")
    root.set("aria-label", _shown(chart.alt))
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 escaped by the writer of the tree


def _along(chart: Chart) -> Any:
    """Lines or bars over the places that any series has."""
    places = sorted({x for series in chart.series for x, _ in series.points})
    drawn = (pygal.Line if chart.kind == "lines" else pygal.Bar)(_options(chart))
    drawn.x_labels = [f"{x:g}" for x in places]
    drawn.x_labels_major_every = max(1, -(-len(places) // LABELS))
    for series, dash in zip(chart.series, itertools.cycle(DASHES)):
        points = dict(series.points)
        shown = [points.get(x, math.nan) for x in places]
        name = f"{series.name} ({dash})" if chart.kind == "lines" and len(chart.series) > 1 else series.name
        drawn.add(_shown(name), [value if _is_drawn(chart, value) else None for value in shown])
    values = [value for series in chart.series for _, value in series.points if _is_drawn(chart, value)]
    if chart.logarithmic and values:
        drawn.y_labels = _decades(min(values), max(values))
    return drawn


def _scattered(chart: Chart) -> Any:
    """Points joined within a series. The height is drawn as a power of ten, because pygal would stretch both axes."""
    drawn = pygal.XY(_options(chart), logarithmic=False, show_dots=True, dots_size=4, show_minor_x_labels=True)
    places = sorted({x for series in chart.series for x, _ in series.points})
    if places:
        drawn.xrange = (0.0, 1.05 * places[-1])
        drawn.x_labels = [0.0, *places]
    heights: list[float] = []
    for series in chart.series:
        points = [(x, value) for x, value in series.points if _is_drawn(chart, value)]
        heights += [value for _, value in points]
        raised = [math.log10(value) if chart.logarithmic else value for _, value in points]
        placed = zip(points, raised, strict=True)
        drawn.add(_shown(series.name), [{"value": (point[0], height), "label": _formatted(point)} for point, height in placed])
    if chart.logarithmic and heights:
        drawn.y_labels = [
            {"value": math.log10(power), "label": _formatted(power)} for power in _decades(min(heights), max(heights))
        ]
    return drawn


def _options(chart: Chart) -> Any:
    return pygal.Config(
        style=_style(), width=WIDTH, height=HEIGHT, js=[], disable_xml_declaration=True, explicit_size=False, show_dots=False,
        logarithmic=chart.logarithmic, x_title=_shown(chart.across), y_title=_shown(chart.upwards), legend_at_bottom=True,
        legend_box_size=12, spacing=14, margin=8, show_minor_x_labels=False,
        legend_at_bottom_columns=3, show_legend=len(chart.series) > 1, no_data_text="nothing to show",
        include_x_axis=False,
        formatter=_formatted, value_formatter=_formatted, x_value_formatter=_formatted,
        truncate_legend=-1, truncate_label=-1,
    )  # fmt: skip


def _formatted(value: float | Sequence[float]) -> str:
    """A number, or both of a point."""
    return f"{value:.3g}" if isinstance(value, int | float) else ", ".join(f"{part:.3g}" for part in value)


def _style() -> Style:
    """One style for light and dark: what differs is said in `_css`."""
    clear = "transparent"
    return Style(
        background=clear, plot_background=clear, foreground="#4a535d", foreground_strong="#1b1f24", foreground_subtle="#c4cad1",
        font_family="system-ui, sans-serif", label_font_size=12, major_label_font_size=12, legend_font_size=13,
        title_font_size=13, colors=LIGHT, no_data_font_size=16, opacity=".9", transition="0s",
    )  # fmt: skip


def _css(uuid: str) -> str:
    """Dashes for lines, and the colours of a dark page."""
    here = f"#chart-{uuid}"
    dashes = "".join(f"{here} .serie-{n} .line {{ stroke-dasharray: {dash} }}" for n, dash in enumerate(DASHES.values()))
    dark = "".join(
        f"{here} .color-{n}, {here} .color-{n} a:visited {{ stroke: {colour}; fill: {colour} }}"
        for n, colour in enumerate(DARK)
    )
    places = (f"{here} {place}" for place in ("text", ".axis text", ".axis text.major", ".legends .legend text", ".title"))
    text = f"{', '.join(places)} {{ fill: #e4e8ec }}"
    lines = ", ".join(f"{here} .axis {place}" for place in (".line", ".guide.line", ".major.guide.line"))
    guides, light = f"{lines} {{ stroke: #4a535d }}", f"{lines} {{ stroke: #c4cad1; stroke-dasharray: 3 3 }}"
    thin = f"{light}{here} .line {{ fill: none; stroke-width: 1.6 }}"
    return f"{dashes}{thin}@media (prefers-color-scheme: dark) {{ {dark}{text}{guides} }}"


def _decades(least: float, most: float) -> list[float]:
    """Powers of ten around all values, at most seven or so."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    step = max(1, -(-(high - low) // DECADES))
    return [10.0**power for power in range(low, max(high, low + 1) + step, step)]


def _is_drawn(chart: Chart, value: float) -> bool:
    return math.isfinite(value) and (value > 0 or not chart.logarithmic)


def _shown(text: str) -> str:
    return legal_xml(visible(encodable(text)))
