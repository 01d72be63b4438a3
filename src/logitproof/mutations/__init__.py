"""Mutations: known implementation bugs, each applied to the unmodified reference on purpose.

To add one, put a file under a family's folder; its path is its id (`rope/pairing/interleaved.py` is
`rope.pairing.interleaved`), the one subclass of `Mutation` in it is the entry, its dataclass fields are
its parameters, its docstring is its help. It acts on a loaded transformers model from outside (attention
interface, module hooks, module-level functions, tensors) and leaves it bit for bit as it was.

What shows only outside one pass over given tokens says so in `needs`: `decode` (through the cache),
`chunked prefill`, `more than 256 positions`, `second sequence` (after another one), `outliers` (huge
activations), `small activations` (where an epsilon counts), `tokenizer` and `sampling`. The last two have
their bug in `tokens` or `drawn_from`; `applied_to` may then have nothing to plant.
`equivalent` is the proof that the bug can change no distribution; such an entry is in no denominator.
`grid` holds the values of a parameter that occur in the field, `ranges` the least and the greatest value that a
search for another one tries. `exchanges` names two taps of a layer that the bug takes for each other, for engines that
call them by their right names and mistake them afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np

from logitproof.protocol.sampler import Sampling


class Mutation:
    """One known bug. Subclasses are dataclasses of parameters; the class attributes are its record."""

    bug: ClassVar[str]
    shows: ClassVar[str]
    seen_in: ClassVar[tuple[str, ...]]
    first_tap: ClassVar[str]
    remedy: ClassVar[str]
    needs: ClassVar[str] = ""
    equivalent: ClassVar[str] = ""
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {}
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}
    exchanges: ClassVar[tuple[str, str] | None] = None

    def applies(self, config: Any) -> bool:
        """Whether a model of this transformers config can have the bug at all."""
        raise NotImplementedError

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in `model` while the context is open; bit-equal to before once it is closed."""
        raise NotImplementedError

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """The ids that the bug makes of a text whose right ids are `token_ids`."""
        return list(token_ids)

    def drawn_from(self, logits: np.ndarray, token_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
        """The probabilities [V] that the bug draws the next token from, for `logits` [V] after `token_ids`."""
        raise NotImplementedError(f"{type(self).__name__} draws no tokens")
