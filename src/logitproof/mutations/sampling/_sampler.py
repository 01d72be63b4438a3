"""A sampler that is wrong in one step; the model is left alone."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from logitproof.mutations import Mutation


class WrongSampler(Mutation):
    """A bug in how the next token is drawn: subclasses say in `drawn_from` what it is drawn from."""

    first_tap: ClassVar[str] = "sampler"
    needs: ClassVar[str] = "sampling"

    def applies(self, config: Any) -> bool:
        """Every model is sampled from."""
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Nothing of the model changes."""
        return contextlib.nullcontext()
