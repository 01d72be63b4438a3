"""`logitproof fabricate`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with


@ends_with(WRITTEN)
@click.command("fabricate")
@click.argument("shape")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--quantization", "-q", multiple=True, metavar="TYPE", help="Also write OUT-TYPE.gguf, such as Q4_K_M; may be repeated."
)
@click.option("--layers", type=int, metavar="N", help="Fewer layers than the published model has.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of every random number.")
def command(shape: str, out: Path, quantization: tuple[str, ...], layers: int | None, seed: int) -> None:
    """Make a model of a published shape, without a download.

    SHAPE is llama3-8b, qwen2.5-7b, qwen3-0.6b, qwen3-30b-a3b or qwen3.5-0.8b. OUT becomes a Hugging Face folder in bfloat16.
    Its weights are random with a real model's spectrum; it has no tokenizer, so prompts are token ids.
    """
    from logitproof.commands._say import note
    from logitproof.files.hashes import file_sha256
    from logitproof.gguf.write import bytes_of, check_type, to_gguf
    from logitproof.weights.fabricate import check_disk, fabricate, parameters
    from logitproof.weights.shapes import shape as shape_of

    config = shape_of(shape, layers)
    count = parameters(config)
    for kind in quantization:
        check_type(kind)
    check_disk(out, 2 * count + bytes_of(count, quantization))
    hashes = fabricate(config, out, seed)
    note(f"{out}: {shape}, {config['num_hidden_layers']} layers, {count:,} parameters, seed {seed}")
    for name, sha256 in hashes.items():
        note(f"{sha256}  {out / name}")
    for kind in quantization:
        file = to_gguf(out, out.with_name(f"{out.name}-{kind}.gguf"), kind, tokenizer=False)
        note(f"{file_sha256(file)}  {file}")
