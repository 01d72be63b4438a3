"""`logitproof lora`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("lora")
@click.argument("adapter", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("model", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def command(adapter: Path, model: Path, out: Path) -> None:
    """Write a PEFT LoRA adapter as a GGUF adapter for llama.cpp.

    The adapter is one of an HF model.
    """
    from logitproof.commands._say import note
    from logitproof.gguf.adapter import adapter_to_gguf
    from logitproof.weights.adapter import read_adapter

    adapter_to_gguf(adapter, model, out)
    note(f"{out}: {len(read_adapter(adapter))} matrices, {out.stat().st_size:,} bytes")
