"""`logitproof dequantize`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import Model


@ends_with(WRITTEN)
@click.command("dequantize")
@click.argument("folder", type=Model("folder"))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path, out: Path) -> None:
    """Write a quantized checkpoint as a plain folder.

    GPTQ, AWQ, compressed-tensors, FP8, MXFP4, NVFP4 and bitsandbytes, each as its own document defines it, in float32. A
    reference reads such a folder as it is; the plain one is for engines that do not. OUT must not be there.
    """
    from logitproof.commands._say import note
    from logitproof.weights.quantized.write import write_plain

    plain = write_plain(folder, out)
    kinds = ", ".join(f"{count} {kind}" for kind, count in plain.details["matrices"].items())
    note(f"{out}: {plain.details['method']}, {kinds} dequantized to float32; the other tensors as they were")
    if count := plain.details["scales_of_activations"]:
        note(f"left out: {count} scales of activations or of the KV cache, which the weights alone do not need")
