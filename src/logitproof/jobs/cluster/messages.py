"""What travels between the machine that asks and a node: JSON that is checked on both sides, never an object of Python."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from logitproof.errors import (
    ContractError,
    EngineDied,
    EngineError,
    EngineGarbage,
    EngineTimeout,
    EnvironmentFailed,
    LogitproofError,
    ModelError,
    StoreFailed,
)
from logitproof.files.forms import SHA256
from logitproof.protocol.messages import HelloResult, Machine, TokenIds

KINDS = (
    ContractError, ModelError, EngineError, EngineDied, EngineTimeout, EngineGarbage, EnvironmentFailed, StoreFailed
)  # fmt: skip
"""Errors that may come from a node."""
Sha256 = Annotated[str, Field(pattern=SHA256)]
Size = Annotated[int, Field(ge=0)]


class Message(BaseModel):
    """Nothing unknown in it, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightFile(Message):
    """A file of a model: its name in the model's folder, its content, its size in bytes."""

    name: str
    sha256: Sha256
    size: Size


class Weights(Message):
    """A model by content: the path that jobs name it by, the sha256 of all its names and contents, and its files."""

    path: str
    sha256: Sha256
    is_folder: bool
    files: list[WeightFile]


class Source(Message):
    """What a job reads of the trace that it continues: its tokens, and where a continuation ends; no row of logits."""

    key: Sha256
    engine: str
    token_ids: TokenIds
    new_token_ids: TokenIds = []
    details: dict[str, Any] = {}


class Task(Message):
    """What a node is to do. `group` is JSON of `Group`; of `hello` and `spell` it has no jobs, or the one that loads the model.

    `hello` is what the engine must say there, `source` the sha256 of this package, `adapter` and `files` what stands in the
    keys of the jobs: a node where one of them is another would write its rows under the key of something else. `gpus` says
    whether Ray has given it cards, `store` where traces go, with nothing back by the pipe.
    """

    action: Literal["describe", "hello", "run", "spell"]
    group: str = ""
    source: str = ""
    adapter: dict[str, Any] = {}
    files: dict[str, str] = {}
    hello: HelloResult | None = None
    weights: list[Weights] = []
    sources: list[Source] = []
    stretches: list[TokenIds] = []
    gpus: bool = False
    store: str = ""


class Fault(Message):
    """A `LogitproofError` on its way."""

    kind: str
    text: str
    where: str = ""
    remedy: str = ""

    @staticmethod
    def of(error: LogitproofError) -> Fault:
        """The error as data; of a class that is not listed, what it inherits."""
        kind = next((kind for kind in KINDS if type(error) is kind), EngineError)
        return Fault(kind=kind.__name__, text=error.text, where=error.where, remedy=error.remedy)

    def as_error(self) -> LogitproofError:
        """The error again."""
        kind = next((kind for kind in KINDS if kind.__name__ == self.kind), EngineError)
        return kind(self.text, where=self.where, remedy=self.remedy)


class Answer(Message):
    """A line of a node. `unfit` is why it may not do what was asked; every other field answers one action.

    `files` are names and sizes of the files of a trace that follow as bytes, in that order, from `folder`; `executed` is what
    the store is to remember beside it.
    """

    begun: str = ""
    described: Described | None = None
    hello: HelloResult | None = None
    fault: Fault | None = None
    unfit: str = ""
    outcome: str = ""
    folder: str = ""
    files: dict[str, Size] = {}
    executed: dict[str, list[str]] = {}
    texts: list[str] | None = None
    fetched: Size = 0


class Described(Message):
    """What a node says of itself: this package's source there, the machine, and models that it holds by content."""

    source: str
    machine: Machine
    holds: list[Sha256] = []


class Member(Message):
    """A node that is alive; `resources` are by Ray's names."""

    id: str
    name: str
    resources: dict[str, float]


class Request(Message):
    """What the driver is to do for the task `id`: `begin` starts `task` (JSON of `Task`), `next` asks what it gives.

    `options` are those of a task of Ray, `offered` paths of files by sha256, which nodes may fetch.
    """

    id: int
    do: Literal["nodes", "begin", "next", "cancel"]
    task: str = ""
    options: dict[str, Any] = {}
    offered: dict[str, str] = {}


class Reply(Message):
    """A line of the driver. Behind one with a `size` stand so many bytes; `lost` is why a task gives nothing more."""

    id: int
    text: str = ""
    size: Size | None = None
    ended: bool = False
    lost: str = ""
    nodes: list[Member] = []
    fault: Fault | None = None


Answer.model_rebuild()
