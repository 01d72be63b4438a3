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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import TypeAdapter, ValidationError

from logitproof import catalog
from logitproof.engines import Engine
from logitproof.errors import ContractError, Refusal
from logitproof.jobs import environments
from logitproof.protocol.messages import (
    METHODS,
    VERSION,
    DetokenizeParams,
    GenerateParams,
    LoadParams,
    Message,
    SampleParams,
    ScoreParams,
    TapsParams,
    TokenizeParams,
)
from logitproof.protocol.sampler import Sampling
from logitproof.rows.top import is_top


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
            raise Refusal(f"{name} has no option {option!r}{catalog.did_you_mean(option, known)}", field=option)
    types = typing.get_type_hints(kind)
    values = {}
    for option, value in options.items():
        try:
            # Only the options are checked: an engine's private state may be of any type.
            values[option] = TypeAdapter(types[option]).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in (option, *first["loc"]))
            raise Refusal(f"{first['msg']}, got {first['input']!r}", field=place) from None
    missing = [
        field.name for field in dataclasses.fields(kind) if field.init and field.name not in values and _is_required(field)
    ]
    if missing:
        raise Refusal(
            f"the engine {name} needs this option", field=missing[0], remedy=f"`logitproof list engines` shows {name}'s options"
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
        params = METHODS[method][0].model_validate(request.get("params", {}))
        result = HANDLERS[method](engine, name, params)
        _send(answers, {"id": number, "result": result})
        return bool(method != "close")
    except Exception as error:
        _send(answers, {"id": number, "error": _fault(error, name)})
        return True


def _hello(engine: Engine, name: str, params: Message) -> dict[str, Any]:
    return {"protocol": VERSION, "engine": name, **dataclasses.asdict(engine.hello())}


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
    scored = engine.score(params.token_ids, params.mode)
    return {**_rows(scored.logits, params.logits), "isa": scored.isa}


def _generate(engine: Engine, name: str, params: GenerateParams) -> dict[str, Any]:
    _refuse_no_tokens(params.token_ids)
    made = engine.generate(params.token_ids, params.max_new_tokens, params.stop)
    return {
        "token_ids": [int(token) for token in made.token_ids],
        **_rows(made.logits, params.logits),
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
    return {"token_ids": [[int(token) for token in one] for one in drawn]}


def _taps(engine: Engine, name: str, params: TapsParams) -> dict[str, Any]:
    given = {tap: tensor.open() for tap, tensor in params.given.items()}
    found = engine.taps(params.token_ids, params.mode, params.names, given)
    folder = Path(params.folder)
    return {"taps": {tap: _write(value, str(folder / f"{tap}.bin")) for tap, value in found.items()}}


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


def _rows(rows: np.ndarray, path: str) -> dict[str, Any]:
    """Whole rows, or the best entries of each, written and announced."""
    if not is_top(rows):
        return {"logits": _write(rows, path)}
    ids = np.ascontiguousarray(rows["id"], "<i4")
    ids.tofile(f"{path}.topk_ids")
    said: dict[str, Any] = {"topk_ids": {"path": f"{path}.topk_ids", "dtype": "int32", "shape": list(ids.shape)}}
    if not np.isnan(rows["log_probability"]).all():
        said["topk_logprobs"] = _write(rows["log_probability"], f"{path}.topk_logprobs")
    return said


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
        return {"kind": "refused", "message": str(error).replace("\n", "; ")}
    traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ImportError):
        return {"kind": "environment", "message": text, "remedy": environments.remedy(name)}
    # numpy's tofile says "1000 requested and 0 written" without a number where the disk is full.
    short = isinstance(error, OSError) and error.errno is None and str(error).endswith("written")
    if short or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)):
        return {"kind": "environment", "message": text, "remedy": "free the disk or give another --out"}
    return {"kind": "failed", "message": text}


def _refuse_everything(answers: BinaryIO, fault: dict[str, str]) -> int:
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _send(answers, {"id": request["id"], "error": fault})
        if request["method"] == "close":
            break
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
