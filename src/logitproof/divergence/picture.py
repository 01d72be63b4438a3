"""The picture that people who quantize publish: size on disk against KL divergence, lower and further left is better."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jinja2 import Environment
from markupsafe import Markup

from logitproof.divergence.measure import Measured
from logitproof.documents.section import Picture
from logitproof.documents.wording import visible

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 150, 20, 50
FLOOR = 1e-12
"""Nats below which everything is drawn alike: a logarithm of 0 has no place."""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{{ width }}" height="{{ height }}" role="img" font-size="11">
<g stroke="currentColor" stroke-opacity="0.25">{% for tick in up %}
<line x1="{{ left }}" x2="{{ end }}" y1="{{ tick.at }}" y2="{{ tick.at }}"/>{% endfor %}{% for tick in along %}
<line x1="{{ tick.at }}" x2="{{ tick.at }}" y1="{{ top }}" y2="{{ foot }}"/>{% endfor %}</g>
<g fill="currentColor">{% for tick in up %}
<text x="{{ left - 8 }}" y="{{ tick.at + 4 }}" text-anchor="end">{{ tick.text }}</text>{% endfor %}{% for tick in along %}
<text x="{{ tick.at }}" y="{{ foot + 16 }}" text-anchor="middle">{{ tick.text }}</text>{% endfor %}
<text x="{{ (left + end) // 2 }}" y="{{ height - 10 }}" text-anchor="middle">weights on disk, MB</text>
<text transform="translate(16 {{ (top + foot) // 2 }}) rotate(-90)" text-anchor="middle">mean KLD, nats</text></g>
{% for point in points %}<g><title>{{ point.title }}</title>
<line x1="{{ point.x }}" x2="{{ point.x }}" y1="{{ point.high }}" y2="{{ point.low }}" stroke="#2f6fb3"/>
<circle cx="{{ point.x }}" cy="{{ point.y }}" r="4" fill="#2f6fb3"/>
<text x="{{ point.x + 8 }}" y="{{ point.y + 4 }}" fill="currentColor">{{ point.text }}</text></g>
{% endfor %}</svg>"""


def picture(candidates: Sequence[Measured]) -> Picture:
    """One point a candidate that was measured, with its 95 % interval over windows; the vertical axis is logarithmic."""
    means = [candidate.figures["kl_mean"] for candidate in candidates]
    ends = [end for mean in means for end in (*(mean.interval or ()), mean.value)]
    low, high = _power(min(ends)), _power(max(ends)) + 1
    most = max(candidate.bytes for candidate in candidates) / 1e6 * 1.05
    end, foot = WIDTH - RIGHT, HEIGHT - BOTTOM

    def height(value: float) -> float:
        return round(foot - (math.log10(max(value, FLOOR)) - low) / (high - low) * (foot - TOP), 1)

    def place(megabytes: float) -> float:
        return round(LEFT + megabytes / most * (end - LEFT), 1)

    points = []
    for candidate, mean in zip(candidates, means, strict=True):
        name, megabytes = visible(candidate.name.rpartition("/")[2]), candidate.bytes / 1e6
        bottom, top = mean.interval or (mean.value, mean.value)
        points.append(
            {
                "x": place(megabytes), "y": height(mean.value), "low": height(bottom), "high": height(top), "text": name,
                "title": f"{name}: {megabytes:.1f} MB, mean KLD {mean.value:.6f} nats",
            }
        )  # fmt: skip
    step = 10 ** math.floor(math.log10(most)) / 2
    svg = Environment(autoescape=True).from_string(SVG).render(
        width=WIDTH, height=HEIGHT, left=LEFT, top=TOP, end=end, foot=foot, points=points,
        up=[{"at": height(10.0**power), "text": f"1e{power}"} for power in range(low, high + 1)],
        along=[{"at": place(step * n), "text": f"{step * n:g}"} for n in range(int(most / step) + 1)],
    )  # fmt: skip
    return Picture(Markup(svg), _alt(candidates), "size against KL divergence")  # noqa: S704 escaped


def _power(value: float) -> int:
    """The power of ten at or below a value."""
    return math.floor(math.log10(max(value, FLOOR)))


def _alt(candidates: Sequence[Measured]) -> str:
    listed = "; ".join(
        f"{candidate.name} {candidate.bytes / 1e6:.1f} MB {candidate.figures['kl_mean'].value:.3g} nats"
        for candidate in candidates
    )
    return f"Weights on disk against mean KLD, on a logarithmic scale, with 95 % intervals over windows: {listed}."
