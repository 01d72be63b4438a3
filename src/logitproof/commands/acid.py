"""`logitproof acid` and `logitproof acid export`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import numpy as np

from logitproof.commands._exits import Exits, ends_with


@ends_with(
    Exits(
        "every probe that was measured holds, or the probes are written",
        "one does not",
        "the engine failed, or nothing was measured",
    )
)
@click.command("acid")
@click.argument("engine", metavar="ENGINE|export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--arch", metavar="NAME,...", help="Only these probes, or those of these families.")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="An option of the engine, as YAML.")
@click.option(
    "--weights",
    type=click.Choice(["auto", "folder", "F32", "F16", "BF16"]),
    default="auto",
    show_default=True,
    help="Give the engine an HF folder or a GGUF file of this type; auto tries the folder, then F32.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="The engine's coarsest arithmetic, where it does not say it itself.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True, help="Seconds a request."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for acid.json.")
@click.option("--json", "as_json", is_flag=True, help="Print acid.json to stdout instead of a table.")
def command(
    engine: str,
    folder: Path | None,
    arch: str | None,
    options: tuple[str, ...],
    weights: str,
    precision: str | None,
    timeout: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Ask ENGINE for all known ways to get a model wrong.

    `logitproof acid export DIR` writes the probes as plain files, for an engine's own tests.
    """
    from logitproof.acid.acid import Request, acid
    from logitproof.acid.export import export
    from logitproof.acid.text import COLUMNS, answer, document, row, write_report
    from logitproof.commands._answer import finish
    from logitproof.documents.console import show_row, show_verdict
    from logitproof.jobs.address import parse_options
    from logitproof.runs.place import withdraw

    probes = arch.split(",") if arch else None
    if (engine == "export") != (folder is not None):
        raise click.UsageError("`acid ENGINE` takes no folder, `acid export DIR` needs one")
    if folder is not None:
        click.echo(export(folder, probes))
        return
    if out is not None:
        withdraw(out, ("acid.json", "report.*", "report-*.svg"))
    request = Request(engine, parse_options(options), probes, weights, precision, timeout)  # type: ignore[arg-type]
    shown = (lambda outcome: None) if as_json else lambda outcome: show_row(COLUMNS, row(outcome))
    report = acid(request, diagnose=diagnosis_of, on_row=shown)
    if out is not None:
        write_report(report, out)
    page = document(report)
    if not as_json:
        show_verdict(page)
    finish([page], answer(report), as_json=as_json)


def diagnosis_of(folder: Path, sequences: list[list[int]], logits: list[np.ndarray], mode: str) -> str:
    """The diagnosis of `logits` [T, V] of each sequence, or why there is none."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            return f"not diagnosed: {package} is not installed (pip install 'logitproof[transformers]')"
    from logitproof.diagnosis.diagnose import diagnose_logits
    from logitproof.diagnosis.text import in_words

    return "\n".join(line.text for line in in_words(diagnose_logits(folder, sequences, logits, mode=mode)))  # type: ignore[arg-type]
