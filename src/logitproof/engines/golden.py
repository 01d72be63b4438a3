"""The engine `golden`: a frozen reference, which needs no model, no HF and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines.dump import continued, held, tokens_of, words_of
from logitproof.errors import ContractError, Refusal
from logitproof.readers.golden import Golden as Reader
from logitproof.traces.dump import Dump, checked
from logitproof.traces.golden_header import Header
from logitproof.weights.model import open_model


@dataclass
class Golden(Engine):
    """A reference that `logitproof freeze` froze: the prompts, tokens and logits of its suite, and no others.

    path is the golden; without it the model's own path is. With it, weights must be those that the golden
    was made from, unless check_weights is off.
    """

    path: str | None = None
    check_weights: bool = True
    _dump: Dump | None = field(default=None, init=False, repr=False)
    _header: Header | None = field(default=None, init=False, repr=False)

    def hello(self) -> Hello:
        versions = {"logitproof": version("logitproof")}
        if self.path is not None:
            header = self._open(Path(self.path))
            versions |= {f"golden.{name}": value for name, value in {"engine": header.engine, **header.versions}.items()}
        return Hello(versions, ("prefill",), generate=True, tokenize=True)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        header = self._open(Path(self.path) if self.path is not None else model)
        if header.form == "small":
            raise Refusal(
                f"holds the best {header.top_k} entries of a row and no more, so a verdict cannot be given",
                field=self.path or str(model),
                remedy="`logitproof compare` gives bounds of KL; freeze without --small for a verdict",
            )
        if self.path is not None and self.check_weights and header.model_sha256:
            self._check(model, header)
        about = header.model_dump(include={"engine", "model", "model_sha256", "suite", "suite_sha256", "error", "determinism"})
        return Loaded(header.vocab_size, header.context_length, eos_token_ids=tuple(header.eos_token_ids), details=about)

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if mode != "prefill":
            raise Refusal("holds one pass, not a decode", field="mode")
        prompt = held(self._loaded(), token_ids)
        assert prompt.logits is not None
        return Scored(np.asarray(prompt.logits[:]))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        return continued(self._loaded(), token_ids, max_new_tokens, stop)

    def tokenize(self, text: str) -> list[int]:
        return tokens_of(self._loaded(), text)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return words_of(self._loaded(), token_ids)

    def _open(self, path: Path) -> Header:
        if self._header is None or self._dump is None:
            reader = Reader()
            self._header, self._dump = reader.header(path), checked(reader.read(path), path)
        return self._header

    def _loaded(self) -> Dump:
        if self._dump is None:
            raise Refusal("nothing was loaded")
        return self._dump

    def _check(self, model: Path, header: Header) -> None:
        try:
            sha256 = open_model(model).sha256
        except ContractError as error:
            raise Refusal(error.text, field=error.where, remedy=error.remedy) from None
        if sha256 != header.model_sha256:
            raise Refusal(
                f"was frozen from weights {header.model_sha256[:12]}, {model.name} is {sha256[:12]}",
                field=str(self.path),
                remedy="freeze it again, or name the weights it was made from",
            )
