"""What one engine did for one prompt, and the failure that stands where a trace would."""

from __future__ import annotations

import functools
import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, create_model

from logitproof.errors import ContractError
from logitproof.files.atomic import content_key
from logitproof.files.hashes import file_sha256
from logitproof.files.untrusted import Number, read_object, refusal, regular_size, validated
from logitproof.rows.routing import Routing
from logitproof.rows.top import TOP, is_top
from logitproof.traces.compact import is_compact

Kind = Literal["score", "generate", "tokenize"]
LOGITS = "logits.bin"
ROUTING = "routing.bin"
"""The numbers of the chosen experts, then their weights: little-endian float64 [2, T, L, k]."""
_TOP_NAME = "top-k"


@dataclass(frozen=True)
class Trace:
    """One engine's work on one prompt, content-addressed by `key`.

    `token_ids` is the whole sequence that was fed; its first `prompt_length` ids are the prompt. For
    `score`, `logits` is [T, V] and row t predicts token t+1. For `generate`, `new_token_ids` [N] is the
    free-running continuation and `logits` [N, V] the row each new token was chosen from. `logits` is
    memory-mapped, float32 or float64; of an engine that gives no more, `toprows.TOP` [T, K].
    `positions` are the rows that its engine holds, where that is not all; the others are NaN. `executed` is the name of
    what its engine executed (`jobs/executed.py`), `unseen` why that is not known. `routing` is what its routers chose at each
    of the T positions, where a gate asks for that, and `unrouted` why nobody sees it.
    """

    key: str
    kind: Kind
    engine: str
    mode: str
    token_ids: list[int]
    prompt_length: int
    logits: np.ndarray
    new_token_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    seconds: float = 0.0
    vocab_size: int = 0
    isa: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    executed: str = ""
    unseen: str = ""
    positions: list[int] = field(default_factory=list)
    routing: Routing | None = None
    unrouted: str = ""

    @property
    def held(self) -> list[int] | range:
        """The positions whose rows are there."""
        return self.positions or range(len(self.logits))

    def record(self) -> dict[str, Any]:
        """Everything but the logits and the routing, as JSON; dtype and shape stand in their place."""
        dtype = _TOP_NAME if is_top(self.logits) else self.logits.dtype.name
        plain = {name: value for name, value in asdict(_without_arrays(self)).items() if name not in ("logits", "routing")}
        record = {**plain, "logits": {"dtype": dtype, "shape": list(self.logits.shape)}}
        if self.routing is None:
            return record
        return {**record, "routing": {"layers": list(self.routing.layers), "chosen": self.routing.chosen.shape[-1]}}


@dataclass(frozen=True)
class Failure:
    """Stands where a Trace would; counted, never averaged away.

    `fault` says whose it is: `setup` (the contract or a file), `engine`, or `environment` (the machine).
    """

    key: str
    engine: str
    fault: Literal["setup", "engine", "environment"]
    text: str
    where: str = ""
    remedy: str = ""


class _Logits(BaseModel):
    dtype: str
    shape: tuple[Number, Number]
    sha256: str = ""


class _Routing(BaseModel):
    layers: list[Number]
    chosen: Number
    sha256: str = ""


@functools.cache
def record_model() -> type[BaseModel]:
    """What `Trace.record` writes, as a model: the fields of a trace, with the shape of its arrays in their place."""
    numbers = dict.fromkeys(("token_ids", "new_token_ids", "positions"), list[Number])
    hints = get_type_hints(Trace) | {"logits": _Logits, "routing": _Routing | None} | numbers
    required = {entry.name for entry in fields(Trace) if entry.default is MISSING and entry.default_factory is MISSING}
    made: dict[str, Any] = {name: (hint, ... if name in required else None) for name, hint in hints.items()}
    return create_model("TraceRecord", __config__=ConfigDict(extra="forbid"), **made)


def whole(trace: Trace) -> Trace:
    """The trace, if every row of it is there; raises ContractError where its engine holds some of them only, or none stayed."""
    if trace.token_ids and trace.kind == "score" and not len(trace.logits):
        raise ContractError("its rows were not kept", where=trace.engine, remedy="run `logitproof check --keep all` again")
    if is_compact(trace.logits):
        text = "its rows were kept compact: KL divergence is theirs to 1e-6 nats, single logits are off by up to a code's step"
        raise ContractError(text, where=trace.engine, remedy="run `logitproof check --keep all` again")
    if trace.positions:
        text = f"holds {len(trace.positions)} of the {len(trace.logits)} positions of its prompt"
        remedy = "every row is needed here: dump every position; gates whose scope is held are judged by `check`"
        raise ContractError(text, where=trace.engine, remedy=remedy)
    return trace


def read_trace(folder: Path) -> Trace:
    """The trace in `folder`: trace.json, and the logits mapped. Raises ContractError, or ValueError where the sizes differ."""
    path = folder / "trace.json"
    record = read_object(path)
    seal = record.pop("sha256", None)  # traces of earlier versions, which a finished run is judged by, have none
    if seal is not None and seal != content_key(record):
        raise refusal(path, "sha256", "is not that of the record: a byte has changed since it was written", AGAIN)
    record.pop("versions", None)  # empty in traces of earlier versions
    valid: Any = validated(path, record_model(), record, remedy=AGAIN)
    shape = valid.logits
    if not 0 <= record["prompt_length"] <= len(record["token_ids"]) or min(record["token_ids"], default=0) < 0:
        text = f"is {record['prompt_length']} of {len(record['token_ids'])} tokens, or a token is negative"
        raise refusal(path, "prompt_length", text, AGAIN)
    held = record.get("positions", [])
    if held != sorted(set(held)) or (held and not 0 <= held[0] <= held[-1] < shape.shape[0]):
        raise refusal(path, "positions", f"are {held[:8]} of {shape.shape[0]} rows", AGAIN)
    logits = open_logits(folder / LOGITS, shape.dtype, list(shape.shape))
    if shape.sha256 and shape.sha256 != file_sha256(folder / LOGITS):
        raise refusal(folder / LOGITS, "sha256", "is not that of its record: a byte has changed since it was written", AGAIN)
    routing = _read_routing(folder / ROUTING, valid.routing, shape.shape[0]) if valid.routing is not None else None
    return Trace(**{**record, "logits": logits, "routing": routing})


def sealed(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record of a trace with the checksums of its arrays in `folder`, and its own."""
    files = {"logits": LOGITS, "routing": ROUTING}
    sums = {name: {**record[name], "sha256": file_sha256(folder / file)} for name, file in files.items() if name in record}
    whole = {**record, **sums}
    return {**whole, "sha256": content_key(whole)}


def write_routing(folder: Path, routing: Routing) -> None:
    """Write the routing into the folder of its trace."""
    np.stack([routing.chosen, routing.weights]).astype("<f8").tofile(folder / ROUTING)


AGAIN = "take the folder away and measure again"


def _read_routing(path: Path, about: _Routing, positions: int) -> Routing:
    """The routing of a trace of so many positions; raises ContractError where the file is not what its record says."""
    shape = (2, positions, len(about.layers), about.chosen)
    if any(not 0 < length < 2**31 for length in shape) or regular_size(path) != math.prod(shape) * 8:
        raise refusal(path, "routing", f"is not {list(shape)} of float64", AGAIN)
    if about.sha256 and about.sha256 != file_sha256(path):
        raise refusal(path, "sha256", "is not that of its record: a byte has changed since it was written", AGAIN)
    chosen, weights = np.fromfile(path, "<f8").reshape(shape)
    return Routing(tuple(about.layers), chosen.astype(np.int64), weights)


def _without_arrays(trace: Trace) -> Trace:
    empty = np.empty((0, 0), np.float32)
    fields_of = {name: getattr(trace, name) for name in trace.__dataclass_fields__}
    return Trace(**{**fields_of, "logits": empty, "routing": None})


def open_logits(path: Path, dtype: str, shape: list[int]) -> np.ndarray:
    """Memory-map raw little-endian logits; raises ValueError where the file is not exactly that size."""
    if dtype not in (_TOP_NAME, "float32", "float64") or any(not 0 <= length < 2**31 for length in shape):
        raise ValueError(f"{path} cannot be {shape} of {dtype!a}")
    kind = TOP if dtype == _TOP_NAME else np.dtype(dtype).newbyteorder("<")
    if regular_size(path) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{path} is not {shape} of {dtype}")
    if 0 in shape:
        return np.empty(shape, kind)
    return np.memmap(path, dtype=kind, mode="r", shape=tuple(shape))
