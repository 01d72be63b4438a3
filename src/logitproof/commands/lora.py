"""`logitproof lora`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import Model
from logitproof.commands._paths import FOLDER


@ends_with(WRITTEN)
@click.command("lora")
@click.argument("adapter", type=FOLDER)
@click.argument("model", type=Model("folder"))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def command(adapter: Path, model: Path, out: Path) -> None:
    """Write a PEFT LoRA adapter as a GGUF adapter.

    The adapter is one of an HF model.
    """
    from logitproof.commands._say import note
    from logitproof.gguf.adapter import adapter_to_gguf
    from logitproof.weights.adapter import read_adapter, scales_of

    adapter_to_gguf(adapter, model, out)
    pairs = read_adapter(adapter)
    scales = ", ".join(f"{scale:.6g} in {len(names)} ({names[0]}, ...)" for scale, names in scales_of(pairs).items())
    note(f"{out}: {len(pairs)} matrices, scale {scales}, {out.stat().st_size:,} bytes")
