"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

OUT = click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder; default runs/CONTRACT.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print verdict.json to stdout instead of a table.")
PARALLEL = click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="Engines run at a time.")
