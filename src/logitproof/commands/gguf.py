"""`logitproof gguf`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("gguf")
def command() -> None:
    """Make GGUF files."""


@command.command("make")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--type", "quantization", default="F32", metavar="TYPE", help="F32, F16, BF16, Q8_0, or any of llama.cpp.")
@click.option("--tokenizer/--no-tokenizer", default=None, help="With the folder's tokenizer; by default where it has one.")
def make(folder: Path, out: Path, quantization: str, tokenizer: bool | None) -> None:
    """Convert a Hugging Face model folder to one GGUF file.

    A file without a tokenizer says so, and serves prompts that are given as token ids.
    """
    from logitproof.commands._say import note
    from logitproof.gguf.write import to_gguf

    with_one = (folder / "tokenizer.json").is_file() if tokenizer is None else tokenizer
    made = to_gguf(folder, out, quantization, tokenizer=with_one)
    note(f"{made}: {quantization}, {made.stat().st_size:,} bytes, {'with its' if with_one else 'without a'} tokenizer")
