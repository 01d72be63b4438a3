"""`logitproof tokenizer`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._hub import DOWNLOAD
from logitproof.commands._options import AS_JSON
from logitproof.commands._paths import FILE


@ends_with(Exits("ids and templates are the same", "they differ", "an engine failed"))
@click.command("tokenizer")
@click.argument("reference", metavar="REF")
@click.argument("candidate", metavar="CAND")
@click.option("--corpus", type=FILE, help="Lines of text to try as well.")
@click.option("--fuzzed", type=click.IntRange(0), default=200, show_default=True, help="Random strings to try.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random text.")
@AS_JSON
@DOWNLOAD
def command(reference: str, candidate: str, corpus: Path | None, fuzzed: int, seed: int, as_json: bool) -> None:
    """Compare two tokenizers, and the chat templates of models.

    The text is hard, and random. REF and CAND are ENGINE:MODEL?option=value. Exit code 1 where ids or templates differ;
    the smallest string that tells
    the two apart is printed. A text that does not come back from its ids is told, and is no difference of the two.
    """
    from logitproof.commands._answer import tell
    from logitproof.documents.answer import Answer
    from logitproof.files.untrusted import read_text
    from logitproof.gguf.vocabulary import special_tokens
    from logitproof.jobs.address import parse_address
    from logitproof.jobs.session import open_side
    from logitproof.jobs.workers import Workers
    from logitproof.quality.chat_template import compare_templates, template_of
    from logitproof.quality.text import of_tokenizers
    from logitproof.quality.tokenizers import compare_tokenizers

    sides = parse_address(reference, where="REF"), parse_address(candidate, where="CAND")
    lines = read_text(corpus).splitlines() if corpus else []
    # Two sides of one engine and the same options must not share a process: it would hold the second model alone.
    with Workers() as first, Workers() as second:
        reference_worker, candidate_worker = open_side(first, sides[0]), open_side(second, sides[1])
        trips = [
            ("reference", reference_worker.tokenize, reference_worker.detokenize),
            ("candidate", candidate_worker.tokenize, candidate_worker.detokenize),
        ]
        result = compare_tokenizers(
            reference_worker.tokenize,
            candidate_worker.tokenize,
            trips,
            corpus=[line for line in lines if line],
            special=[special_tokens(side.model) for side in sides],
            fuzzed=fuzzed,
            seed=seed,
        )
    rendered = compare_templates(*(template_of(side.model) for side in sides))
    differs = bool(result.differences or rendered)
    about = f"{reference} and {candidate}"
    data = {**vars(result), "templates": rendered, "differs": differs}
    tell(of_tokenizers(about, result, rendered), Answer("tokenizer", about, 1 if differs else 0, data), as_json=as_json)
