"""`logitproof rotate`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import Model


@ends_with(WRITTEN)
@click.command("rotate")
@click.argument("model", type=Model("folder"))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--quantization", "-q", multiple=True, metavar="TYPE", help="Also write OUT-TYPE.gguf, such as Q4_0; may be repeated."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random number.")
def command(model: Path, out: Path, quantization: tuple[str, ...], seed: int) -> None:
    """Rotate an HF model as QuaRot does: the same logits.

    Its weights have no outliers and are ready to be quantized to 4 bits.
    """
    from logitproof.commands._say import note
    from logitproof.gguf.write import to_gguf
    from logitproof.weights.rotate import rotate

    rotate(model, out, seed=seed)
    note(f"{out}: rotated, in float32")
    for kind in quantization:
        file = out.with_name(f"{out.name}-{kind}.gguf")
        to_gguf(out, file, kind)
        note(str(file))
    note(f"next: a contract with {model} as original and {out} as candidate must stay inside the float32 band")
