"""Freezes a reference: its tokens and logits in one small file that needs no model, no HF and no torch to be used."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.bands.band import TIE_SIGMAS
from logitproof.contract.contract import ORIGINAL
from logitproof.contract.opened import OpenContract, open_contract
from logitproof.contract.suite import Prompt, Suite, open_suite
from logitproof.errors import ContractError, LogitproofError
from logitproof.golden.writer import Limits, delta, write_golden
from logitproof.jobs.job import make_job
from logitproof.jobs.pool import LocalPool
from logitproof.jobs.run import run
from logitproof.jobs.sides import reference_side
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers
from logitproof.traces import rowcode as code
from logitproof.traces.capture import open_capture
from logitproof.traces.golden_header import VERSION, GoldenPrompt, Header
from logitproof.traces.store import Store, TraceStore
from logitproof.traces.trace import Failure, Trace, whole
from logitproof.weights.hub import absolute, located
from logitproof.weights.model import open_model

THREADS = (1, 2)


@dataclass(frozen=True)
class Frozen:
    """What was written: the header, the size, and the bytes a token with everything in."""

    path: Path
    header: Header
    size: int

    @property
    def positions(self) -> int:
        return sum(prompt.positions for prompt in self.header.prompts)

    @property
    def bytes_per_token(self) -> float:
        return self.size / self.positions


@dataclass(frozen=True)
class _Item:
    """One prompt to freeze: its trace and what the suite says of it."""

    id: str
    bucket: str
    prompt_length: int
    trace: Trace
    text: str | None = None
    continuation_text: str = ""


@dataclass(frozen=True)
class _Source:
    """A reference's traces, and how to run it again."""

    items: list[_Item]
    spec: Spec
    model: Path
    model_sha256: str
    suite: str
    suite_sha256: str
    mode: str
    versions: dict[str, str]
    config: Path | None = None
    shown_options: dict[str, Any] = field(default_factory=dict)


def freeze(
    source: Path,
    out: Path,
    *,
    small: bool = False,
    model: str | None = None,
    store: TraceStore | None = None,
    limits: Limits | None = None,
    determinism: bool = True,
) -> Frozen:
    """Write the golden of a capture folder, or of the reference of a contract, which is run (`store` keeps its traces).

    The result is read back and compared with the exact logits before it is put in place. Raises
    ContractError where the stated error cannot be kept, EngineError where the reference fails.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory() as scratch:
        if source.is_dir():
            opened = _from_capture(source)
        else:
            opened = _from_contract(open_contract(source), model, store or Store(Path(scratch) / "store"))
        record = _determinism(opened, Path(scratch)) if determinism else {"said": "not measured: it was not asked for"}
        header = _header(opened, record, small, limits)
        if small:
            header = header.model_copy(update={"top_k": _small_k(header, limits)})
        written, size = write_golden([item.trace for item in opened.items], header, out, limits)
    return Frozen(out, written, size)


def _from_capture(folder: Path) -> _Source:
    capture, traces = open_capture(folder)
    if not traces:
        raise ContractError("holds no prompt, so there is nothing to freeze", where=str(folder))
    texts, sha256 = dict[str, str | None](), ""
    try:
        suite = open_suite(capture.suite, folder)
        texts, sha256 = {prompt.id: prompt.text for prompt in suite.prompts}, suite.sha256
    except ContractError:
        pass  # the suite's file is elsewhere: the tokens are hashed instead, and the texts are left out
    continuations = _continuations(Store(folder / "store"))
    items = [
        _Item(
            prompt.id,
            prompt.bucket,
            prompt.prompt_length,
            trace,
            prompt.text if prompt.text is not None else texts.get(prompt.id),
            prompt.continuation_text or continuations.get(tuple(trace.token_ids), ""),
        )
        for prompt, trace in zip(capture.prompts, traces, strict=True)
    ]
    spec = Spec(capture.engine, capture.options, directory=str(Path.cwd()))
    path = absolute(Path(capture.model))
    return _Source(
        items,
        spec,
        path,
        capture.model_sha256,
        capture.suite,
        sha256,
        capture.mode,
        capture.versions,
        shown_options=capture.options,
    )


def _continuations(store: TraceStore) -> dict[tuple[int, ...], str]:
    """Texts of what the engine generated, by prompt and continuation tokens."""
    made = [trace for trace in store.every() if trace.kind == "generate"]
    return {(*trace.token_ids, *trace.new_token_ids): trace.text for trace in made}


def _from_contract(opened: OpenContract, name: str | None, store: TraceStore) -> _Source:
    """Run the contract's reference on the original weights of one model."""
    contract = opened.contract
    if name is None and len(contract.models) > 1:
        known = ", ".join(contract.models)
        raise ContractError(f"has several models: {known}", where=str(opened.path), remedy="name one with --model")
    name = name or next(iter(contract.models))
    if ORIGINAL not in contract.models.get(name, {}):
        known = ", ".join(contract.models)
        text = f"no model {name!r} with `{ORIGINAL}` weights; models: {known}"
        raise ContractError(text, where=opened.where("models"), remedy="name one with --model")
    use = contract.reference
    side = reference_side(opened, name)
    path, config, spec = side.model, side.config, side.spec
    where = opened.where("models", name, ORIGINAL)
    located(contract.models[name][ORIGINAL], opened.folder, where=where)
    weights = open_model(path, where=where)
    with Workers() as workers:
        hello = workers.hello({"reference": spec})["reference"]
        if isinstance(hello, LogitproofError):
            raise hello
        pairs, jobs = [], []
        for suite, prompt in _prompts(opened):
            models = {str(path): weights}
            first = make_job(spec, hello, models, path, config, "generate", "greedy", prompt, suite.continuation(prompt))
            then = make_job(spec, hello, models, path, config, "score", "prefill", prompt, 0, first.key)
            pairs.append((prompt, first.key, then.key))
            jobs += [replace(first, is_kept=True), replace(then, is_kept=True)]
        done = run({job.key: job for job in jobs}.values(), store, executor=LocalPool(workers))
        results = {result.key: _whole(result) for result in done}
    items = []
    for prompt, generated, scored in pairs:
        source = results[generated]
        items.append(_Item(prompt.id, prompt.bucket, source.prompt_length, results[scored], prompt.text, source.text))
    names = "+".join(suite.suite for suite in opened.suites)
    sha256 = hashlib.sha256("".join(suite.sha256 for suite in opened.suites).encode()).hexdigest()
    sha256 = opened.suites[0].sha256 if len(opened.suites) == 1 else sha256
    return _Source(items, spec, path, weights.sha256, names, sha256, "prefill", hello.versions, config, use.options)


def _prompts(opened: OpenContract) -> Iterator[tuple[Suite, Prompt]]:
    several = len(opened.suites) > 1
    for suite in opened.suites:
        for prompt in suite.prompts:
            yield suite, prompt.model_copy(update={"id": f"{suite.suite}.{prompt.id}"}) if several else prompt


def _whole(result: Trace | Failure) -> Trace:
    if isinstance(result, Failure):
        kind = ContractError if result.fault == "setup" else LogitproofError
        raise kind(result.text, where=result.where, remedy=result.remedy)
    return whole(result)


def _determinism(source: _Source, scratch: Path) -> dict[str, Any]:
    """Score everything at 1 and at 2 threads and say how far the logits are apart."""
    entry = catalog.find("engines", source.spec.engine)
    if "threads" not in entry.option_names:
        return {"said": f"not measured: the engine {source.spec.engine} has no option `threads`"}
    try:
        weights = open_model(source.model)
        if weights.sha256 != source.model_sha256:
            return {"said": "not measured: the weights have changed since the capture"}
        traces = [_scored(source, weights, threads, scratch) for threads in THREADS]
    except LogitproofError as error:
        return {"said": f"not measured: {error.text.splitlines()[0]}"}
    largest, rms, flips = 0.0, 0.0, 0
    for first, second in zip(*traces, strict=True):
        for a, b in zip(first.logits, second.logits, strict=True):
            gap = delta(np.asarray(a, np.float64), np.asarray(b, np.float64))
            largest, rms = max(largest, float(np.abs(gap).max())), max(rms, math.sqrt(float(np.mean(gap**2))))
            flips += int(np.argmax(a) != np.argmax(b))
    words = "the same bits at 1 and 2 threads" if largest == 0 else f"1 and 2 threads differ by {largest:.3g} logits at most"
    return {"said": words, "threads": list(THREADS), "max_delta_logit": largest, "rms_delta_logit": rms, "argmax_flips": flips}


def _scored(source: _Source, weights: Any, threads: int, scratch: Path) -> list[Trace]:
    spec = replace(source.spec, options={**source.spec.options, "threads": threads})
    models = {str(source.model): weights}
    with Workers() as workers:
        hello = workers.hello({"reference": spec})["reference"]
        if isinstance(hello, LogitproofError):
            raise hello
        jobs = [
            make_job(spec, hello, models, source.model, source.config, "score", source.mode, _as_prompt(item))
            for item in source.items
        ]
        unique = {job.key: job for job in jobs}
        done = run(unique.values(), Store(scratch / f"threads-{threads}"), executor=LocalPool(workers))
        results = {result.key: _whole(result) for result in done}
    return [results[job.key] for job in jobs]


def _as_prompt(item: _Item) -> Prompt:
    return Prompt(id=item.id, bucket=item.bucket, token_ids=item.trace.token_ids)


def _header(source: _Source, determinism: dict[str, Any], small: bool, limits: Limits) -> Header:
    first = source.items[0].trace
    vocab = int(first.logits.shape[1])
    k = code.small_k(vocab, limits.small_bytes) if small else min(limits.top_k, vocab)
    if k < 1:
        raise ContractError(f"{limits.small_bytes} bytes a token hold no entry", where="--small", remedy="allow more")
    floor = max(limits.margin_floor, TIE_SIGMAS * 2**0.5 * float(determinism.get("rms_delta_logit", 0.0)))
    tokens = json.dumps([item.trace.token_ids for item in source.items])
    return Header(
        version=VERSION,
        form="small" if small else "full",
        vocab_size=vocab,
        dtype="float64" if first.logits.dtype.itemsize == 8 else "float32",
        top_k=k,
        engine=source.spec.engine,
        options=source.shown_options,
        model=source.model.name,
        model_sha256=source.model_sha256,
        suite=source.suite,
        suite_sha256=source.suite_sha256,
        tokens_sha256=hashlib.sha256(tokens.encode()).hexdigest(),
        mode=source.mode,
        versions=source.versions,
        eos_token_ids=[int(token) for token in first.details.get("eos_token_ids", [])],
        error={},
        determinism=determinism,
        margin_floor=floor,
        uncertain=[row for item in source.items if (row := _uncertain(item, floor))],
        prompts=[
            GoldenPrompt(
                id=item.id,
                bucket=item.bucket,
                text=item.text,
                continuation_text=item.continuation_text,
                prompt_length=item.prompt_length,
                positions=len(item.trace.token_ids),
            )
            for item in source.items
        ],
    )


def _small_k(header: Header, limits: Limits) -> int:
    """How many entries a row of the small form holds, so that the whole file keeps its promise of bytes a token.

    Of a file of very few tokens the header alone is larger; at least half of the bytes are left to the rows.
    """
    around = len(header.model_dump_json()) * 1.1 + 250 * len(header.prompts) + 600
    tokens = sum(prompt.positions for prompt in header.prompts)
    budget = max(limits.small_bytes - math.ceil(around / tokens), limits.small_bytes // 2)
    return code.small_k(header.vocab_size, budget)


def _uncertain(item: _Item, floor: float) -> dict[str, Any] | None:
    """The least margin among the rows that chose the continuation, if it is inside the noise."""
    rows = range(max(item.prompt_length - 1, 0), max(len(item.trace.token_ids) - 1, item.prompt_length))
    least = (math.inf, -1)
    for row in rows:
        second, first = np.partition(np.asarray(item.trace.logits[row], np.float64), -2)[-2:]
        least = min(least, (float(first - second), row))
    return {"prompt": item.id, "margin": least[0], "position": least[1]} if least[0] < floor else None
