"""The engine that the acid test is put to: started, started again where it died, and asked for logits of a probe."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np

from logitproof.acid.probe import PRECISIONS, Probe
from logitproof.errors import ContractError, EngineDied, EngineGarbage, EngineTimeout
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec
from logitproof.protocol.messages import HelloResult, LoadResult, Mode
from logitproof.protocol.precision import Precision, coarsest, stated
from logitproof.protocol.sampler import Sampling

Weights = Literal["auto", "folder", "F32", "F16", "BF16"]
WEIGHTS: tuple[Weights, ...] = ("auto", "folder", "F32", "F16", "BF16")
OF_FILES: dict[str, Precision] = {"folder": "float32", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The precision that a file's type brings with it: llama.cpp rounds activations to the type of the weights."""


class Subject:
    """One engine with one set of options. Use as a context manager; `scratch` holds GGUF files and logits."""

    def __init__(self, spec: Spec, scratch: Path, weights: Weights = "auto") -> None:
        self.spec, self.weights = spec, weights
        self._scratch, self._session = scratch, Session(spec, spec.engine)
        self._hello: HelloResult | None = None

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._session.close()

    def hello(self) -> HelloResult:
        """What the engine says it can do."""
        if self._hello is None:
            self._hello = self._session.hello()
        return self._hello

    def load(self, probe: Probe) -> LoadResult:
        """Load the probe's weights; with `auto` the first kind of file that the engine takes is kept from then on.

        Raises ContractError where the engine refuses the model.
        """
        if self.weights != "auto":
            return self._load(probe, self.weights)
        refused = []
        for kind in ("folder", "F32"):
            try:
                loaded = self._load(probe, kind)
            except ContractError as error:
                refused.append(f"{'HF folder' if kind == 'folder' else 'GGUF'}: {error.text}")
            else:
                self.weights = kind  # type: ignore[assignment]
                return loaded
        raise ContractError("; ".join(refused), where=self.spec.engine)

    def score(self, token_ids: tuple[int, ...] | list[int], mode: Mode) -> np.ndarray:
        """Logits [T, V] in memory."""
        file = self._scratch / "logits.raw"
        try:
            return np.array(self._session.worker().score(token_ids, mode, file).logits.open())
        finally:
            file.unlink(missing_ok=True)

    def generate(self, token_ids: tuple[int, ...] | list[int], count: int) -> tuple[list[int], np.ndarray]:
        """The greedy continuation and the logits [N, V] of its tokens."""
        file = self._scratch / "logits.raw"
        try:
            made = self._session.worker().generate(token_ids, count, [], file)
            return made.token_ids, np.array(made.logits.open())
        finally:
            file.unlink(missing_ok=True)

    def sample(self, token_ids: tuple[int, ...], count: int, sampling: Sampling) -> list[list[int]]:
        """`count` single tokens that the engine draws after `token_ids`."""
        return self._session.worker().sample(token_ids, count, 1, [], sampling)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`."""
        return self._session.worker().tokenize(text)

    def precision(self, loaded: LoadResult, probe: Probe | None = None) -> str:
        """The coarsest arithmetic that the engine says it uses: dtype, KV cache, single operations, the file's type.

        An arithmetic that `probe` has no band for is named before all others: weights in float16 leave the range of that type,
        whatever type the cache has.
        """
        known = [precision for precision in stated(loaded.details) if precision in PRECISIONS]
        known.append(OF_FILES.get(self.weights, "float32"))
        return next((precision for precision in known if probe is not None and not probe.judges(precision)), coarsest(known))

    def _load(self, probe: Probe, kind: str) -> LoadResult:
        if kind == "folder":
            return self._session.worker().load(probe.folder, None)
        return self._session.worker().load(gguf_of(probe, self._scratch, kind), probe.folder)


DEAD = (EngineDied, EngineTimeout, EngineGarbage)
"""Errors after which the engine is started afresh and has to load again."""


def gguf_of(probe: Probe, folder: Path, kind: str = "F32") -> Path:
    """The probe as a GGUF file in `folder`, made if it is not there; ContractError where GGUF has no such family."""
    from logitproof.gguf.write import to_gguf

    file = folder / f"{probe.name}-{kind}.gguf"
    return file if file.is_file() else to_gguf(probe.folder, file, kind)
