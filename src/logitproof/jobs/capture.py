"""Captures: what one engine gave for a suite, kept in a folder, and two of them compared.

FOLDER/capture.json     engine, model, prompts with the keys of their traces
FOLDER/store/…          the traces
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.comparison.compare import compare
from logitproof.comparison.summary import summarize
from logitproof.contract.suite import Prompt, Suite, open_suite
from logitproof.errors import ContractError, EngineError, did_you_mean
from logitproof.files.atomic import write_atomically
from logitproof.jobs.job import Job, make_job
from logitproof.jobs.pool import LocalPool
from logitproof.jobs.progress import Progress
from logitproof.jobs.run import run
from logitproof.jobs.spec import Spec
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import HelloResult
from logitproof.traces.capture import FORMAT, Capture, CapturedPrompt, open_capture
from logitproof.traces.store import Store, TraceStore
from logitproof.traces.trace import Failure, Trace, whole
from logitproof.weights.hub import absolute
from logitproof.weights.model import open_model


def capture(
    engine: str,
    model: Path,
    suite: str,
    out: Path,
    *,
    options: dict[str, Any] | None = None,
    mode: str = "prefill",
    config: Path | None = None,
    tokens_from: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Capture:
    """Score every prompt of a suite, and its greedy continuation, with one engine.

    With `tokens_from` the very tokens of another capture are scored, so that the two can be compared.
    Raises EngineError if any prompt fails; what was measured before that is kept in the store.
    """
    entry = catalog.find("engines", engine, where="ENGINE")
    for option in options or {}:
        if option not in entry.option_names:
            raise ContractError(
                f"{engine} has no option {option!r}{did_you_mean(option, entry.option_names)}", where="--option"
            )
    paths = [absolute(path) for path in (model, config) if path]
    models = {str(path): open_model(path) for path in paths}
    opened = open_suite(suite, Path(), where="SUITE")
    spec = Spec(engine, options or {}, directory=str(Path.cwd()))
    store = Store(out / "store")
    store.sweep()
    with Workers() as workers:
        hello = workers.hello({engine: spec})[engine]
        if isinstance(hello, Exception):
            raise hello
        jobs = _jobs(
            opened,
            tokens_from,
            lambda *rest: make_job(spec, hello, models, paths[0], paths[1] if config else None, *rest),
            mode,
        )
        results = _collect(jobs, store, workers, engine, on_progress)
    return _keep(out, opened, jobs, results, spec, hello, model, models[str(paths[0])].sha256, mode)


def compare_captures(reference: Path, candidate: Path) -> dict[str, Any]:
    """Statistics of every metric over all positions of two captures of the same tokens.

    Raises ContractError where they were not fed the same tokens or nothing can be compared.
    """
    (reference_capture, left), (candidate_capture, right) = open_capture(reference), open_capture(candidate)
    by_id = {prompt.id: trace for prompt, trace in zip(candidate_capture.prompts, right, strict=True)}
    for prompt, trace in zip(reference_capture.prompts, left, strict=True):
        match = by_id.get(prompt.id)
        if match is None or match.token_ids != trace.token_ids:
            raise ContractError(
                f"prompt {prompt.id!r} was not fed the same tokens as in {reference}",
                where=str(candidate),
                remedy=f"capture the candidate with --tokens-from {reference}",
            )
    tables = [
        compare(trace.logits, by_id[prompt.id].logits, labels=np.array([*trace.token_ids[1:], -1], np.int64))
        for prompt, trace in zip(reference_capture.prompts, left, strict=True)
    ]
    if not tables:
        raise ContractError("holds no prompt, so nothing was compared", where=str(reference))
    values = {name: [np.asarray(table.metrics[name]) for table in tables] for name in tables[0].metrics}
    return {
        "reference": f"{reference_capture.engine} {reference_capture.model} {reference_capture.mode}",
        "candidate": f"{candidate_capture.engine} {candidate_capture.model} {candidate_capture.mode}",
        "positions": sum(table.positions for table in tables),
        "missing": {"prompts_of_reference": len(set(by_id) - {prompt.id for prompt in reference_capture.prompts})},
        "metrics": {
            name: summarize(rows, seed=0) for name, rows in values.items() if any(np.isfinite(row).any() for row in rows)
        },
    }


def _jobs(suite: Suite, tokens_from: Path | None, make: Callable[..., Job], mode: str) -> list[Job]:
    """The generate job of each prompt and the score job after it, or a score job on given tokens."""
    jobs = []
    if tokens_from is None:
        for prompt in suite.prompts:
            source = make("generate", "greedy", prompt, suite.continuation(prompt))
            jobs += [source, make("score", mode, prompt, 0, source.key)]
        return jobs
    source_capture, traces = open_capture(tokens_from)
    by_id = {prompt.id: trace for prompt, trace in zip(source_capture.prompts, traces, strict=True)}
    for prompt in suite.prompts:
        if prompt.id not in by_id:
            raise ContractError(f"has no prompt {prompt.id!r}", where=str(tokens_from), remedy="use the suite of that capture")
        given = Prompt(id=prompt.id, bucket=prompt.bucket, token_ids=by_id[prompt.id].token_ids)
        jobs.append(make("score", mode, given))
    return jobs


def _collect(
    jobs: list[Job], store: TraceStore, workers: Workers, engine: str, on_progress: Callable[[Progress], None]
) -> dict[str, Trace]:
    by_key = {job.key: job for job in jobs}
    results: dict[str, Trace] = {}
    failed: Failure | None = None
    for done, result in enumerate(run(by_key.values(), store, executor=LocalPool(workers)), start=1):
        on_progress(Progress(done, len(by_key), by_key[result.key], result))
        if isinstance(result, Failure):
            failed = failed or result
        else:
            results[result.key] = whole(result)
    if failed is not None:
        kind = ContractError if failed.fault == "setup" else EngineError
        raise kind(failed.text, where=failed.where or engine, remedy=failed.remedy)
    return results


def _keep(
    out: Path,
    suite: Suite,
    jobs: list[Job],
    results: dict[str, Trace],
    spec: Spec,
    hello: HelloResult,
    model: Path,
    sha256: str,
    mode: str,
) -> Capture:
    prompts = []
    for job in jobs:
        if job.kind == "score":
            source = results[job.after] if job.after else results[job.key]
            texts = (job.prompt.text, source.text)
            prompts.append(CapturedPrompt(job.prompt.id, job.prompt.bucket, source.prompt_length, job.key, *texts))
    made = Capture(
        format=FORMAT,
        engine=spec.engine,
        options=spec.options,
        model=str(model),
        model_sha256=sha256,
        suite=suite.suite,
        mode=mode,
        versions=hello.versions,
        prompts=tuple(prompts),
        positions=sum(len(results[prompt.key].logits) for prompt in prompts),
        dtype=str(results[prompts[0].key].details.get("dtype", spec.options.get("dtype", ""))) if prompts else "",
    )
    write_atomically(out / "capture.json", json.dumps(asdict(made), indent=1))
    return made
