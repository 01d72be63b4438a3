"""Mutations: known implementation bugs, each applied to the unmodified reference on purpose.

A file of a family's folder is a mechanism (what is wrong with RoPE's tables, say), a class in it is a bug:

    class Base(WrongParameters, id="rope.base"):
        '''RoPE turns by the frequencies of another base (theta) than the model's.'''

        record = Record(
            shows="position 0 exact, wrong from position 1 on, growing smoothly with position",
            first_tap="layers.0.attn.q_rope",
            remedy="read rope_theta from rope_parameters as well as from the top of the config",
            seen_in=("litgpt #2217",),
        )
        base: float = swept(1e4, grid=(1e4, 1e5, 5e5), between=(1e3, 1e8))

        def parameters(self, right: Parameters, config: Any) -> Parameters:
            return right | {"rope_theta": self.base}

To add one, put a class into the file of its mechanism, or start a file for a new one. Its `id` is its name for good and
begins with its family's; its docstring is the bug in one sentence; its `record` says the rest; its annotated fields are its
options. `applies` and `applied_to` come from the mechanism, a base class in `_*.py`, or one of the same file that begins with
an underscore. A bug acts on a loaded transformers model from outside (attention interface, module hooks, module-level
functions, tensors) and leaves it bit for bit as it was. A package of your own registers such a module in the entry-point
group `logitproof.mutations`; a module with a single class without an `id` is called as the module is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np

from logitproof.protocol.sampler import Sampling

Value = TypeVar("Value")


@dataclass(frozen=True)
class Record:
    """What is known of a bug. What is left empty is as the mechanism says, or as `Mutation` does."""

    shows: str
    """How logits and taps look with it."""
    remedy: str
    """What to do about it."""
    first_tap: str = ""
    """The first tap that is wrong."""
    seen_in: tuple[str, ...] = ()
    """Where it happened: a project and the number of the public thread."""
    needs: str = ""
    """What shows only outside one pass over given tokens says where: `decode` (through the cache), `chunked prefill`,
    `more than 256 positions`, `second sequence` (after another one), `outliers` (huge activations), `small activations`
    (where an epsilon counts), `adapter` (a LoRA beside the weights), `tokenizer` and `sampling`. The last two have their bug in
    `tokens` or `drawn_from`."""
    equivalent: str = ""
    """The proof that the bug can change no distribution; such an entry is in no denominator."""
    exchanges: tuple[str, str] | None = None
    """Two taps of a layer that the bug takes for each other, for engines that call them by their right names and mistake
    them afterwards."""


def swept(default: Value, *, grid: tuple[Value, ...] = (), between: tuple[float, float] | None = None) -> Value:
    """An option that is tried at the values of `grid`, which occur in the field, and searched `between` two others.

    With a whole number as its default it is searched in whole numbers.
    """
    tried = {"grid": grid} if grid else {}
    searched = {"ranges": between} if between else {}
    made: Value = field(default=default, metadata=tried | searched)
    return made


@dataclass_transform()
class Mutation:
    """One known bug, or, without an `id`, a mechanism that several bugs share.

    A class with an `id` is made a dataclass of its options; a mechanism with options of its own says `@dataclass`.
    `bug` is the first paragraph of the docstring, `grid` and `ranges` are read off the options, the rest off the record.
    """

    id: ClassVar[str] = ""
    record: ClassVar[Record]
    bug: ClassVar[str]
    shows: ClassVar[str]
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str]
    remedy: ClassVar[str]
    needs: ClassVar[str] = ""
    equivalent: ClassVar[str] = ""
    exchanges: ClassVar[tuple[str, str] | None] = None
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    def __init_subclass__(cls, *, id: str = "", **named: Any) -> None:
        """Read the record and the swept options into class attributes."""
        super().__init_subclass__(**named)
        options = {name: value.metadata for name, value in vars(cls).items() if isinstance(value, Field)}
        cls.grid = cls.grid | {name: swept["grid"] for name, swept in options.items() if "grid" in swept}
        cls.ranges = cls.ranges | {name: swept["ranges"] for name, swept in options.items() if "ranges" in swept}
        if "record" in vars(cls):
            for name, value in vars(cls.record).items():
                if value:
                    setattr(cls, name, value)
        if "bug" not in vars(cls):
            cls.bug = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
        if id:
            cls.id = id
            dataclass(cls)

    @classmethod
    def is_whole(cls, option: str) -> bool:
        """Whether an option is searched in whole numbers."""
        return isinstance(getattr(cls, option, None), int)

    def applies(self, config: Any) -> bool:
        """Whether a model of this transformers config can have the bug at all."""
        raise NotImplementedError

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in `model` while the context is open; bit-equal to before once it is closed."""
        raise NotImplementedError

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Options of every place (a layer, a head, one of these tokens) that the bug could be in, in a model of `config`."""
        yield from ()

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """The ids that the bug makes of a text whose right ids are `token_ids`."""
        return list(token_ids)

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """The probabilities [V] that the bug draws the next token from, for `logits` [V] after `token_ids`."""
        raise NotImplementedError(f"{type(self).__name__} draws no tokens")
