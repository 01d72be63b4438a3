"""The messages between harness and engine: JSON Lines on stdin and stdout, tensors as files.

One request at a time. A request is `{"id", "method", "params"}`; its answer is `{"id", "result"}` or
`{"id", "error"}`; before the answer an engine may send `{"id", "progress"}` any number of times, and `{"id", "part"}`
once for each sequence of a request for many. These
models are the whole truth: `schemas/protocol.schema.json` is generated from them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from logitproof.errors import EngineError
from logitproof.rows.top import top_rows

VERSION = 1
WHOLE = "ask the engine for its whole vocabulary, if it can give that"
Mode = Literal["prefill", "decode"]
TokenIds = list[Annotated[int, Field(ge=0)]]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def received(cls, content: object) -> Self:
        """A message that came, strictly as JSON has it: no text and no truth counts as a number; raises ValidationError."""
        return cls.model_validate_json(json.dumps(content), strict=True)


class Tensor(Message):
    """A tensor in a file of raw little-endian numbers in C order; the harness names the path."""

    path: str
    dtype: Literal["float32", "float64", "int32"]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def other_size(self, actual: int) -> str:
        """What is wrong with a file of `found` bytes."""
        count = max(math.prod(self.shape), 1)
        kinds = {2: "float16 or bfloat16", 4: "float32", 8: "float64"}
        hint = kinds.get(actual // count) if actual % count == 0 and actual else None
        as_if = f": as many as {hint} would be" if hint else ""
        return f"{list(self.shape)} of {self.dtype} is {self.size} bytes, the file has {actual}{as_if}"

    def open(self) -> np.ndarray:
        """The tensor, memory-mapped read-only; raises ValueError if the file is not exactly its size."""
        kind = np.dtype(self.dtype).newbyteorder("<")
        if (actual := Path(self.path).stat().st_size) != self.size:
            raise ValueError(self.other_size(actual))
        if self.size == 0:
            return np.empty(self.shape, kind)
        return np.memmap(self.path, dtype=kind, mode="r", shape=self.shape)


class HelloParams(Message):
    protocol: int = VERSION
    options: dict[str, Any] = {}


class LoadParams(Message):
    model: str = Field(description="absolute path of the weights: a file or a folder")
    config: str | None = Field(None, description="HF folder of the unquantized model, for config and tokenizer")


class TokenizeParams(Message):
    text: str


class DetokenizeParams(Message):
    token_ids: TokenIds


class ScoreParams(Message):
    token_ids: TokenIds
    mode: Mode
    logits: str = Field(description="the file to write the logits to, [T - first, V] raw little-endian")
    first: Annotated[int, Field(ge=0, description="rows before this position are not wanted")] = 0


class SequenceParams(Message):
    """One sequence of a request for many."""

    token_ids: TokenIds
    logits: str = Field(description="the file to write its logits to, [T, V] raw little-endian")


class ScoreManyParams(Message):
    """`score` of every sequence, each from an empty cache; each is answered by a `part`, in any order."""

    sequences: Annotated[list[SequenceParams], Field(min_length=1)]
    mode: Mode


class GenerateParams(Message):
    token_ids: TokenIds
    max_new_tokens: Annotated[int, Field(ge=0)]
    stop: TokenIds = []
    logits: str = Field(description="the file to write the logits of the N new tokens to, [N, V]")


class SampleParams(Message):
    """Draw `count` continuations independently. Settings at their defaults leave nothing out and change nothing."""

    token_ids: TokenIds
    count: Annotated[int, Field(ge=1)]
    max_new_tokens: Annotated[int, Field(ge=1)]
    stop: TokenIds = []
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    seed: Annotated[int, Field(ge=0)] = 0


class TapsParams(Message):
    """Run `token_ids` through the model and keep what flows through its taps (see docs/taps.md).

    `given` are taps of another engine: where one is given, the operation's own result is kept and the given values
    flow on, so that every operation is applied to the other engine's input.
    """

    token_ids: TokenIds
    mode: Mode
    names: list[str] = Field(description="patterns of the taps to keep, such as layers.*.attn.q_rope")
    folder: str = Field(description="an existing folder for one file a tap")
    given: dict[str, Tensor] = {}


class CloseParams(Message):
    pass


class Machine(Message):
    """The machine that computes: what a library may choose its kernels by."""

    architecture: str = Field("", description="as Linux calls it, x86_64 or aarch64")
    processor: str = Field("", description="the name of the processor; or, of a server, what is known of where it is")
    flags: list[str] = Field([], description="instruction sets that the processor offers, as /proc/cpuinfo names them")


class HelloResult(Message):
    """Capabilities. `versions` names everything that can change a logit, `isa` is evidence, not a wish (docs/isa.md).

    `batch` offers `score_many`, `tail` the `first` of `score`. An engine that leaves `machine` out computes where it was
    started.
    """

    protocol: int
    engine: str
    versions: dict[str, str] = {}
    modes: list[Mode] = ["prefill", "decode"]
    generate: bool = False
    tokenize: bool = False
    sample: bool = False
    batch: bool = False
    tail: bool = False
    taps: list[str] = []
    isa: dict[str, str] = {}
    machine: Machine | None = None


class LoadResult(Message):
    vocab_size: Annotated[int, Field(ge=1)]
    context_length: int | None = None
    bos_token_id: int | None = None
    eos_token_ids: TokenIds = []
    details: dict[str, Any] = {}


class TokenizeResult(Message):
    token_ids: TokenIds


class DetokenizeResult(Message):
    text: str


class Rows(Message):
    """Whole rows, `logits` float [T, V]; or, of an engine that gives no more, the best K entries of each.

    `topk_ids` int32 [T, K], best first, -1 where a row has fewer; `topk_logprobs` float32 [T, K], natural
    logarithms over the whole vocabulary, left out where only the chosen token is known (K = 1). They go to the path that
    `logits` was asked for, with `.topk_ids` and `.topk_logprobs` behind it.
    """

    whole: Tensor | None = Field(None, alias="logits")
    topk_ids: Tensor | None = None
    topk_logprobs: Tensor | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.whole is None) == (self.topk_ids is None) or (self.topk_logprobs is not None and self.topk_ids is None):
            raise ValueError("rows are either `logits` or `topk_ids` with `topk_logprobs`")
        return self

    @property
    def logits(self) -> Tensor:
        """The whole rows; raises EngineError where only the best entries of each are there."""
        if self.whole is None:
            raise EngineError("gives the best entries of a row only, whole rows are needed here", remedy=WHOLE)
        return self.whole

    def open(self) -> np.ndarray:
        """Float [T, V] memory-mapped, or `toprows.TOP` [T, K]; raises ValueError if a file is not exactly its size."""
        if self.topk_ids is None:
            return self.logits.open()
        return top_rows(self.topk_ids.open(), self.topk_logprobs.open() if self.topk_logprobs is not None else None)


class ScoreResult(Rows):
    """Row t predicts token t+1; as many rows as token ids, less those before the `first` that was asked for.

    Who holds some of them only names these in `held`, from 0 and rising, and every entry of the other rows is NaN.
    """

    isa: dict[str, str] = {}
    held: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None


class GenerateResult(Rows):
    token_ids: TokenIds
    finish: Literal["length", "stop"]
    isa: dict[str, str] = {}


class SampleResult(Message):
    """One list of new token ids for each continuation."""

    token_ids: list[TokenIds]


class TapsResult(Message):
    """float32 tensors in the canonical layouts of docs/taps.md, by tap; what the engine has not got is left out."""

    taps: dict[str, Tensor]


class CloseResult(Message):
    pass


class Fault(Message):
    """Why a request was not answered, and whose fault it is.

    `refused`: the request or a file it names is wrong. `failed`: the engine is. `environment`: the
    machine is (disk full, a missing library). `unsupported`: the engine does not offer this method.
    """

    kind: Literal["refused", "failed", "environment", "unsupported"]
    message: str
    field: str = ""
    remedy: str = ""


class Part(Message):
    """What became of one sequence of a request for many: its rows, or why there are none."""

    index: Annotated[int, Field(ge=0)]
    result: ScoreResult | None = None
    error: Fault | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.result is None) == (self.error is None):
            raise ValueError("a part is either `result` or `error`")
        return self


class ScoreManyResult(Message):
    """The end of a request for many: as many parts as sequences were sent before it."""

    answered: Annotated[int, Field(ge=0)]


class Request(Message):
    id: int
    method: str
    params: dict[str, Any] = {}


class Response(Message):
    id: int
    result: dict[str, Any] | None = None
    error: Fault | None = None
    progress: dict[str, Any] | None = None
    part: dict[str, Any] | None = None


METHODS: dict[str, tuple[type[Message], type[Message]]] = {
    "hello": (HelloParams, HelloResult),
    "load": (LoadParams, LoadResult),
    "tokenize": (TokenizeParams, TokenizeResult),
    "detokenize": (DetokenizeParams, DetokenizeResult),
    "score": (ScoreParams, ScoreResult),
    "score_many": (ScoreManyParams, ScoreManyResult),
    "generate": (GenerateParams, GenerateResult),
    "sample": (SampleParams, SampleResult),
    "taps": (TapsParams, TapsResult),
    "close": (CloseParams, CloseResult),
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema of every message: requests, answers and the parameters and results of each method."""
    from pydantic.json_schema import models_json_schema

    methods = [model for pair in METHODS.values() for model in pair]
    models: list[type[Message]] = [Request, Response, Part, Tensor, Fault, *methods]
    modes: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(model, "validation") for model in models]
    _, schema = models_json_schema(modes, title="logitproof engine protocol")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "version": VERSION,
        "methods": {
            name: {"params": {"$ref": f"#/$defs/{a.__name__}"}, "result": {"$ref": f"#/$defs/{b.__name__}"}}
            for name, (a, b) in METHODS.items()
        },
        **schema,
    }
