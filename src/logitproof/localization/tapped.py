"""Engines that are asked for taps: one sequence, a folder for each answer, and what one engine makes of the taps of another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Side
from logitproof.protocol.messages import Mode, Tensor
from logitproof.protocol.precision import Precision, coarsest, stated
from logitproof.weights.model import is_gguf
from logitproof.weights.stored import stored_precision

Say = Callable[[str], None]
IN_PIECES = ("chunk", "batch_size")
"""Options of engines that say how many positions a piece of a prefill has."""


class NoTaps(ContractError):
    """An engine shows nothing of its inside, so that no operation of it can be compared."""


@dataclass
class Room:
    """Where taps lie, for which tokens, and how much of them there was at most."""

    scratch: Path
    ids: list[int]
    mode: Mode
    budget: int
    say: Say
    most: int = 0
    count: int = 0

    def folder(self) -> Path:
        """A fresh folder for one answer."""
        self.count += 1
        made = self.scratch / str(self.count)
        made.mkdir()
        return made


class Tapped:
    """One running engine with its model, asked for taps."""

    def __init__(self, stack: ExitStack, name: str, side: Side, room: Room) -> None:
        self._room, self._side = room, side
        session = stack.enter_context(Session(side.spec, name))
        if not session.hello().taps:
            remedy = "use transformers or llamacpp, an engine whose hello offers taps, or a folder with a taps.yaml"
            raise NoTaps("offers no taps", where=side.name, remedy=remedy)
        self._worker, self._loaded = session.loaded(side.model, side.config)
        self.tensors: dict[str, Tensor] = {}

    def read(self, patterns: Sequence[str]) -> dict[str, np.ndarray]:
        """The taps that the patterns name."""
        self.tensors = self._worker.taps(self._room.ids, self._room.mode, patterns, self._room.folder())
        self._room.most = max(self._room.most, sum(Path(tensor.path).stat().st_size for tensor in self.tensors.values()))
        return {name: tensor.open() for name, tensor in self.tensors.items()}

    def replay(
        self, candidate_taps: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray] | None:
        """What this engine's operations make of the candidate's taps, or their `names`; None where it cannot be given any."""
        given = self._room.folder()
        tensors = {}
        for name, value in candidate_taps.items():
            path = given / f"{name}.bin"
            np.ascontiguousarray(value, "<f4").tofile(path)
            tensors[name] = Tensor(path=str(path), dtype="float32", shape=value.shape)
        try:
            wanted = list(candidate_taps if names is None else names)
            made = self._worker.taps(self._room.ids, self._room.mode, wanted, self._room.folder(), tensors)
        except ContractError:
            return None
        arrays = {name: np.array(tensor.open()) for name, tensor in made.items()}
        shutil.rmtree(given)
        return arrays

    @property
    def piece(self) -> int:
        """Positions of a piece, where its options let a prefill of these tokens go in several; 0 where it is one pass."""
        sizes = [size for name in IN_PIECES if isinstance(size := self._side.spec.options.get(name), int)]
        return next((size for size in sizes if self._room.mode == "prefill" and 0 < size < len(self._room.ids)), 0)

    def precision(self) -> Precision:
        """The coarsest arithmetic that the engine says it uses; ggml rounds activations to the type of the weights."""
        known = stated(self._loaded.details)
        if not self._loaded.details.get("dtype") and is_gguf(self._side.model):
            known.append(stored_precision(self._side.model))
        return coarsest(known)
