"""`logitproof gguf`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._hub import Model


@click.group("gguf")
def command() -> None:
    """Make GGUF files of model folders, and folders of files."""


@ends_with(WRITTEN)
@command.command("make")
@click.argument("folder", type=Model("folder"))
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


@ends_with(WRITTEN)
@command.command("export")
@click.argument("file", type=Model("file"))
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--weights/--no-weights", default=True, help="With the dequantized weights in float32; by default yes.")
def export(file: Path, out: Path, weights: bool) -> None:
    """Write a GGUF file as a Hugging Face folder.

    Config, tokenizer and chat template come from the file's metadata; what it does not say is told. OUT must not be there.
    """
    from logitproof.commands._say import note
    from logitproof.errors import ContractError
    from logitproof.gguf.folder import derive, write

    if out.exists():
        raise ContractError("is there already", where=str(out), remedy="name a folder that is not there")
    derived = derive(file)
    if weights:
        from logitproof.reference.export import export_weights

        export_weights(file, out)
    out.mkdir(parents=True, exist_ok=True)
    write(derived, out)
    note(f"{out}: {derived.config['architectures'][0]}, {'float32' if weights else 'no'} weights")
    for entry in derived.assumed:
        note(f"assumed: {entry.key} = {entry.value} ({entry.rule})")
    for key in derived.unread:
        note(f"not read: {key}")
    if derived.no_tokenizer:
        note(f"no tokenizer: {derived.no_tokenizer}")
