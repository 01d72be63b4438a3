"""`logitproof kl`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON


@ends_with(Exits("every candidate was measured, however far it is", nothing="an engine failed"))
@click.command("kl")
@click.argument("base")
@click.argument("candidates", nargs=-1, required=True, metavar="CANDIDATE...")
@click.option("--text", type=click.Path(path_type=Path, dir_okay=False), help="Text to measure on, UTF-8.")
@click.option("--context", type=click.IntRange(4), default=512, show_default=True, help="Tokens of a window.")
@click.option("--windows", type=click.IntRange(1), default=None, help="Windows at most; default: all of the text.")
@click.option("--threads", type=click.IntRange(1), default=None, help="Of llama.cpp where weights are named; default: all.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write the base as llama-perplexity's file.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap over windows.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for kl.json, kl.html and kl.svg.")
@AS_JSON
@DOWNLOAD
def command(
    base: str,
    candidates: tuple[str, ...],
    text: Path | None,
    context: int,
    windows: int | None,
    threads: int | None,
    save: Path | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure KL divergence as llama-perplexity does.

    BASE and CANDIDATE are weights (a GGUF file for llama.cpp, an HF folder for transformers) or ENGINE:MODEL?option=value. BASE
    may be a file of `llama-perplexity --kl-divergence-base`, which holds its own text. Windows, statistics and standard errors
    are that tool's, with an interval over windows beside them. Several candidates share one pass of the base. There is no
    verdict. Exit code 3: a candidate failed.
    """

    from logitproof.commands._answer import tell
    from logitproof.commands._say import say
    from logitproof.divergence.files import write
    from logitproof.divergence.measure import Asked, measure
    from logitproof.divergence.text import answer, document
    from logitproof.divergence.windows import text_of
    from logitproof.rows.processors import processors

    asked = Asked(text_of(text) if text else None, context, windows, save, threads or processors(), seed)
    divergences = measure(base, candidates, asked, say)
    made, page = answer(divergences, str(text) if text else ""), document(divergences)
    if out is not None:
        say(f"written: {', '.join(str(path) for path in write(out, made, page))}")
    tell(page, made, as_json=as_json)
