"""The engine's end of the protocol: `python -m logitproof.serve ENGINE OPTIONS_JSON`, run by a worker.

stdout belongs to the protocol, so the engine and every library under it are given stderr instead.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import TypeAdapter, ValidationError

from logitproof import catalog
from logitproof.engines import Answered, Asked, Engine
from logitproof.errors import ContractError, Refusal, did_you_mean
from logitproof.files.worded import in_words, place_of, quoted, worded
from logitproof.jobs import environments
from logitproof.protocol.machine import this_machine
from logitproof.protocol.messages import (
    METHODS,
    VERSION,
    DetokenizeParams,
    GenerateParams,
    LoadParams,
    Message,
    SampleParams,
    ScoreManyParams,
    ScoreParams,
    TapsParams,
    TokenizeParams,
)
from logitproof.protocol.sampler import Sampling
from logitproof.protocol.sink import RowSink


def main(arguments: list[str]) -> int:
    """Serve one engine until its harness closes it or goes away."""
    name, options = arguments
    answers = _take_stdout()
    try:
        engine = _build(name, json.loads(options))
        replacement = engine.replace_process()
    except BaseException as error:
        return _refuse_everything(answers, _fault(error, name))
    if replacement:
        argv, environment = replacement
        os.dup2(answers.fileno(), 1)
        os.execvpe(argv[0], argv, environment)
    for line in sys.stdin.buffer:
        if not _answer(engine, name, line, answers):
            break
    return 0


def _take_stdout() -> BinaryIO:
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


def _build(name: str, options: dict[str, Any]) -> Engine:
    kind = catalog.load("engines", name)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for option in options:
        if option not in known:
            raise Refusal(f"{name} has no option {option!r}{did_you_mean(option, known)}", field=option)
    types = typing.get_type_hints(kind)
    values = {}
    for option, value in options.items():
        try:
            # Only the options are checked: an engine's private state may be of any type.
            values[option] = TypeAdapter(types[option]).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in (option, *place_of(first, value)))
            raise Refusal(f"{worded(first)}{quoted(first['input'])}", field=place) from None
    missing = [
        field.name for field in dataclasses.fields(kind) if field.init and field.name not in values and _is_required(field)
    ]
    if missing:
        raise Refusal(
            f"the engine {name} needs the option {missing[0]!r}",
            field=missing[0],
            remedy=f"`logitproof list engines` shows {name}'s options",
        )
    engine: Engine = kind(**values)
    return engine


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _answer(engine: Engine, name: str, line: bytes, answers: BinaryIO) -> bool:
    """Answer one request; False once it was `close`."""
    number = -1
    try:
        request = json.loads(line)
        number, method = request["id"], request["method"]
        if method not in METHODS:
            _send(answers, {"id": number, "error": {"kind": "unsupported", "message": f"no method is called {method!r}"}})
            return True
        params = METHODS[method][0].received(request.get("params", {}))
        if method in STREAMS:
            result = _streamed(STREAMS[method](engine, name, params), number, answers)
        else:
            result = HANDLERS[method](engine, name, params)
        _send(answers, {"id": number, "result": result})
        return bool(method != "close")
    except Exception as error:
        _send(answers, {"id": number, "error": _fault(error, name)})
        return True


def _streamed(messages: Iterator[dict[str, Any]], number: int, answers: BinaryIO) -> dict[str, Any]:
    """Send every message of a request for many under its number; the result that ends it."""
    answered = 0
    for message in messages:
        _send(answers, {"id": number, **message})
        answered += "part" in message
    return {"answered": answered}


def _hello(engine: Engine, name: str, params: Message) -> dict[str, Any]:
    """What the engine says, and what is true of every engine that is served here: `score_many`, `first`, and the machine."""
    hello = engine.hello()
    machine = (hello.machine or this_machine()).model_dump()
    return {"protocol": VERSION, "engine": name, **dataclasses.asdict(hello), "batch": True, "tail": True, "machine": machine}


def _load(engine: Engine, name: str, params: LoadParams) -> dict[str, Any]:
    config = Path(params.config) if params.config else None
    loaded = dataclasses.asdict(engine.load(Path(params.model), config))
    own = environments.own_folder()
    return {**loaded, "details": {**loaded["details"], "environment": own}} if own else loaded


def _tokenize(engine: Engine, name: str, params: TokenizeParams) -> dict[str, Any]:
    return {"token_ids": [int(token) for token in engine.tokenize(params.text)]}


def _detokenize(engine: Engine, name: str, params: DetokenizeParams) -> dict[str, Any]:
    return {"text": engine.detokenize(params.token_ids)}


def _score(engine: Engine, name: str, params: ScoreParams) -> dict[str, Any]:
    _refuse_no_tokens(params.token_ids)
    if params.first >= len(params.token_ids):
        text = f"row {params.first} is the first that is asked for, of {len(params.token_ids)} tokens"
        raise Refusal(text, field="first", remedy="ask for one row at least")
    with RowSink(Path(params.logits), params.first) as rows:
        isa = engine.score_rows(params.token_ids, params.mode, rows)
        return {**rows.announce(), "isa": dict(isa)}


def _score_many(engine: Engine, name: str, params: ScoreManyParams) -> Iterator[dict[str, Any]]:
    """A part a sequence as the engine ends it; one that cannot be asked for is answered at once."""
    asked: list[Asked] = []
    indices: list[int] = []
    with ExitStack() as stack:
        for index, sequence in enumerate(params.sequences):
            try:
                _refuse_no_tokens(sequence.token_ids)
            except Refusal as error:
                yield {"part": {"index": index, "error": _fault(error, name)}}
                continue
            asked.append(Asked(sequence.token_ids, stack.enter_context(RowSink(Path(sequence.logits)))))
            indices.append(index)
        for news in engine.score_many(asked, params.mode) if asked else ():
            if isinstance(news, Answered):
                yield {"part": {"index": indices[news.index], **_part(news, asked[news.index].rows, name)}}
            else:
                yield {"progress": {"at": news.at}}


def _part(answered: Answered, rows: RowSink, name: str) -> dict[str, Any]:
    if answered.error is not None:
        return {"error": _fault(answered.error, name)}
    try:
        return {"result": {**rows.announce(), "isa": dict(answered.isa)}}
    except OSError as error:
        return {"error": _fault(error, name)}


def _generate(engine: Engine, name: str, params: GenerateParams) -> dict[str, Any]:
    _refuse_no_tokens(params.token_ids)
    made = engine.generate(params.token_ids, params.max_new_tokens, params.stop)
    with RowSink(Path(params.logits)) as rows:
        rows.write(made.logits)
        announced = rows.announce()
    return {
        "token_ids": [int(token) for token in made.token_ids],
        **announced,
        "finish": made.finish,
        "isa": made.isa,
    }


def _refuse_no_tokens(token_ids: list[int]) -> None:
    if not token_ids:
        raise Refusal("there are no token ids", field="token_ids", remedy="a prompt has one token at least")


def _sample(engine: Engine, name: str, params: SampleParams) -> dict[str, Any]:
    settings = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    sampling = Sampling(**{key: getattr(params, key) for key in settings})
    drawn = engine.sample(params.token_ids, params.count, params.max_new_tokens, params.stop, sampling)
    return {"token_ids": [[int(token) for token in sequence] for sequence in drawn]}


def _taps(engine: Engine, name: str, params: TapsParams) -> dict[str, Any]:
    given = {tap: tensor.open() for tap, tensor in params.given.items()}
    taps = engine.taps(params.token_ids, params.mode, params.names, given)
    folder = Path(params.folder)
    return {"taps": {tap: _write(value, str(folder / f"{tap}.bin")) for tap, value in taps.items()}}


def _close(engine: Engine, name: str, params: Message) -> dict[str, Any]:
    return {}


HANDLERS: dict[str, Any] = {
    "hello": _hello,
    "load": _load,
    "tokenize": _tokenize,
    "detokenize": _detokenize,
    "score": _score,
    "generate": _generate,
    "sample": _sample,
    "taps": _taps,
    "close": _close,
}
STREAMS: dict[str, Callable[[Engine, str, Any], Iterator[dict[str, Any]]]] = {"score_many": _score_many}
"""Methods whose answers come in parts before the result."""


def _write(logits: np.ndarray, path: str) -> dict[str, Any]:
    wide = logits.dtype == np.float64
    kind = "<f8" if wide else "<f4"
    np.ascontiguousarray(logits, kind).tofile(path)
    return {"path": path, "dtype": "float64" if wide else "float32", "shape": list(logits.shape)}


def _send(answers: BinaryIO, message: dict[str, Any]) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    while data:
        data = data[answers.write(data) :]


def _fault(error: BaseException, name: str) -> dict[str, str]:
    if isinstance(error, Refusal):
        return {"kind": "refused", "message": error.text, "field": error.field, "remedy": error.remedy}
    if isinstance(error, ContractError):
        return {"kind": "refused", "message": error.text, "field": error.where, "remedy": error.remedy}
    if isinstance(error, ValidationError):
        return {"kind": "refused", "message": in_words(error)}
    traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        return {"kind": "environment", "message": text, "remedy": environments.remedy(name)}
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" to write {error.filename}" if error.filename else ""
        return {"kind": "environment", "message": f"the disk is full{where}", "remedy": FREE}
    # numpy's tofile says "1000 requested and 0 written" without a number where the disk is full.
    short = isinstance(error, OSError) and error.errno is None and str(error).endswith("written")
    if short:
        asked, _, written = str(error).partition(" requested and ")
        text = f"the disk is full: {written.removesuffix(' written')} of {asked} numbers of the rows were written"
    if short or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)):
        return {"kind": "environment", "message": text, "remedy": FREE}
    return {"kind": "failed", "message": text}


FREE = "free the disk or give another --out"


def _refuse_everything(answers: BinaryIO, fault: dict[str, str]) -> int:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _send(answers, {"id": request["id"], "error": fault})
        if request["method"] == "close":
            break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
