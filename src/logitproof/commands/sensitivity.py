"""`logitproof sensitivity`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD, Model
from logitproof.commands._options import AS_JSON


@ends_with(
    Exits("every unit was measured, however much it costs", nothing="a library is missing, or the logits are not finite")
)
@click.command("sensitivity")
@click.argument("model", type=Model())
@click.option(
    "--type", "types", multiple=True, default=("Q4_K",), show_default=True, help="A type to quantize to; more for a plan."
)
@click.option("--text", type=click.Path(path_type=Path, dir_okay=False), help="Text to measure on; default: shipped prompts.")
@click.option("--windows", type=click.IntRange(1), default=6, show_default=True, help="Windows of the text.")
@click.option("--tokens", type=click.IntRange(2), default=16, show_default=True, help="Tokens of a window.")
@click.option("--budget", default="", metavar="60MB|4.5bpw", help="Plan the types within so many bytes, or bits a weight.")
@click.option(
    "--tensor-type-file",
    "plan_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the plan for `llama-quantize --tensor-type-file`.",
)
@click.option("--all-but/--no-all-but", default=True, help="Also all tensors but each; by default yes, twice the time.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; default sensitivity-MODEL.")
@AS_JSON
@DOWNLOAD
def command(
    model: Path,
    types: tuple[str, ...],
    text: Path | None,
    windows: int,
    tokens: int,
    budget: str,
    plan_file: Path | None,
    all_but: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure which tensor's quantization costs how much.

    MODEL is a GGUF file or an HF folder. Each tensor, layer and kind is quantized alone, and all but it, dequantized, and
    planted in the float32 reference; what counts is the KL divergence of the output. With --budget and two types or more, a
    plan spends the bytes where they save most. A run that was interrupted goes on where it stopped.
    """
    from logitproof.commands._answer import tell
    from logitproof.commands._progress import counted
    from logitproof.commands._say import say
    from logitproof.errors import ContractError
    from logitproof.sensitivity.sensitivity import Asked, sensitivity
    from logitproof.sensitivity.text import answer, document, write, write_plan
    from logitproof.weights.hub import absolute, named

    if plan_file is not None and not budget:
        raise ContractError("there is a plan only within a budget", where="--tensor-type-file", remedy="add --budget 60MB")
    folder = out or Path(f"sensitivity-{named(absolute(model))}")
    asked = Asked(types, text, windows, tokens, budget, all_but, folder)
    with counted(quiet=as_json) as on_unit:
        measured = sensitivity(model, asked, on_unit)
    if plan_file is not None:
        write_plan(plan_file, measured)
        say(f"types of the plan: {plan_file}")
    made, page = answer(measured), document(measured, plan_file)
    say(f"report: {write(folder, made, page)}")
    tell(page, made, as_json=as_json)
