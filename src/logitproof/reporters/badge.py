"""badge.svg: the verdict in one small picture, for a README."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment

from logitproof.documents.wording import encodable, visible
from logitproof.files.atomic import write_atomically
from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished
from logitproof.reporters import Reporter

COLOURS = {"PASS": "#17652f", "FAIL": "#b3261e", "ERROR": "#7a3ea8"}
LETTER, PAD, LONGEST = 7, 10, 40
"""Width of a letter, of the space beside a text, and how many letters of a contract's name are shown."""
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{{ left + right }}" height="20" role="img"
 aria-label="{{ name }}: {{ status }}">
<title>{{ name }}: {{ status }}</title>
<rect width="{{ left }}" height="20" rx="3" fill="#3b434c"/>
<rect x="{{ left }}" width="{{ right }}" height="20" rx="3" fill="{{ colour }}"/>
<g fill="#fff" font-family="Verdana, DejaVu Sans, sans-serif" font-size="11" text-anchor="middle">
<text x="{{ left / 2 }}" y="14">{{ name }}</text><text x="{{ left + right / 2 }}" y="14">{{ status }}</text></g></svg>
"""


class Badge(Reporter):
    """badge.svg: the contract's name and PASS, FAIL or ERROR."""

    def render(self, report: Report, folder: Path) -> Path:
        return _write(report.opened.contract.contract, report.verdict.status, folder)

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """ERROR."""
        _write(run.contract, "ERROR", folder)


def _write(contract: str, status: str, folder: Path) -> Path:
    path = folder / "badge.svg"
    name = visible(encodable(contract))[:LONGEST]
    left, right = (LETTER * len(text) + PAD for text in (name, status))
    made = Environment(autoescape=True).from_string(SVG)
    write_atomically(path, made.render(name=name, status=status, left=left, right=right, colour=COLOURS[status]))
    return path
