"""Reporters: layouts of one report.

To add one, put a file here (or in a package of yours, under the entry-point group
`logitproof.reporters`): one subclass of `Reporter` whose `render` writes its files into a run folder. A
reporter decides nothing: every status, number and order stands in the report already.
"""

from __future__ import annotations

from pathlib import Path

from logitproof.report.report import Report
from logitproof.report.unfinished import Unfinished


class Reporter:
    """One layout of a report."""

    def render(self, report: Report, folder: Path) -> Path:
        """Write into `folder`, atomically; returns the file that a person would open."""
        raise NotImplementedError

    def unfinished(self, run: Unfinished, folder: Path) -> None:
        """Say in the same file that a run came to no verdict; a layout that has no words for that leaves no file."""
