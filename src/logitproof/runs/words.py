"""What the tokens at a position spell."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from logitproof.errors import LogitproofError
from logitproof.files.atomic import content_key
from logitproof.jobs.cell import Cell
from logitproof.jobs.job import Job
from logitproof.jobs.plan import Plan
from logitproof.jobs.pool import Speller
from logitproof.report.report import Words, shown_tokens, words_key
from logitproof.traces.store import TraceStore
from logitproof.verdict.compared import Compared, Results


def read_words(
    planned: Plan, compared: Mapping[Cell, Sequence[Compared]], results: Results, store: TraceStore, speller: Speller
) -> Words:
    """The text of every token that a report may show, from the reference's tokenizer.

    A report shows what it can: where the reference has no tokenizer, the ids stand for themselves.
    """
    jobs = {job.key: job for job in planned.jobs}
    wanted: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    sources: dict[str, Job] = {}
    for cell, rows in compared.items():
        for row in rows:
            if row.comparison is not None and row.pair.prompt.text is not None:
                sources[cell.model] = jobs[row.pair.source]
                wanted[cell.model] |= shown_tokens(row, results)
    return {model: _words(sources[model], stretches, store, speller) for model, stretches in wanted.items()}


def _words(job: Job, stretches: set[tuple[int, ...]], store: TraceStore, speller: Speller) -> dict[str, str]:
    """Texts by key, remembered in the store so that a finished run loads no model for them."""
    key = content_key({"spec": job.spec.identity(), "model": str(job.model)})
    known: dict[str, str] = store.note("words", key)
    if missing := sorted(stretch for stretch in stretches if words_key(stretch) not in known):
        with contextlib.suppress(LogitproofError):
            known.update(zip(map(words_key, missing), speller.spell(job, missing), strict=True))
        store.remember("words", key, known)
    return {words_key(stretch): known[words_key(stretch)] for stretch in stretches if words_key(stretch) in known}
