"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

OUT = click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder; default runs/CONTRACT.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print verdict.json to stdout instead of a table.")
PARALLEL = click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="Engines run at a time.")

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout instead of text.")
MODE = click.option(
    "--mode",
    type=click.Choice(["prefill", "decode"]),
    default="prefill",
    show_default=True,
    help="All tokens in one pass, or one at a time through the cache.",
)
TEMPERATURE = click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=0.7,
    show_default=True,
    help="Logits are divided by it before a token is drawn.",
)
TOP_K = click.option(
    "--top-k", type=click.IntRange(min=0), default=0, show_default=True, help="Draw from the best K tokens; 0 is all."
)
TOP_P = click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    help="Draw from the smallest set, best first, of this mass; 1 is all.",
)
MIN_P = click.option(
    "--min-p",
    type=click.FloatRange(min=0, max=1),
    default=0.0,
    show_default=True,
    help="Draw from tokens of this share of the best one's probability; 0 is all.",
)
