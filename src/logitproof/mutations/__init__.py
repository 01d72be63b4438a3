"""Mutations: known implementation bugs, each applied to the unmodified reference on purpose.

To add one, put a file under a family's folder; its path is its id (`rope/pairing/interleaved.py` is
`rope.pairing.interleaved`), the one subclass of `Mutation` in it is the entry, its dataclass fields are
its parameters, its docstring is its help. It acts on a loaded transformers model from outside (attention
interface, module hooks, module-level functions, tensors) and leaves it bit for bit as it was.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar


class Mutation:
    """One known bug. Subclasses are dataclasses of parameters; the class attributes are its record."""

    bug: ClassVar[str]
    shows: ClassVar[str]
    seen_in: ClassVar[tuple[str, ...]]
    first_tap: ClassVar[str]
    remedy: ClassVar[str]

    def applies(self, config: Any) -> bool:
        """Whether a model of this transformers config can have the bug at all."""
        raise NotImplementedError

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in `model` while the context is open; bit-equal to before once it is closed."""
        raise NotImplementedError
