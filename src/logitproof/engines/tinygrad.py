"""The engine `tinygrad`: the language models of tinygrad itself, from GGUF files."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

# The device is chosen at the first use; this one compiles by itself, where plain CPU wants clang.
os.environ.setdefault("DEV", "CPU:X86")

import numpy as np
from tinygrad import Device, Tensor, TinyJit, UOp
from tinygrad.llm.cli import SimpleTokenizer
from tinygrad.llm.gguf import gguf_load
from tinygrad.llm.model import Transformer
from tinygrad.nn.state import get_state_dict

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.errors import Refusal
from logitproof.weights.model import is_gguf


@dataclass
class Tinygrad(Engine):
    """tinygrad's own loader and transformer (`tinygrad.llm`), from a GGUF file.

    Its forward pass ends in a token, so the last step is done here: the same blocks, norm and head, at every position.
    Weights are float32 unless dtype asks for float16, which is tinygrad's own default. Prefill goes in pieces of chunk_size,
    the last one filled up; a recurrent model takes one position at a time. The device is the environment's `DEV`.
    `details.unused` are the tensors of the file that tinygrad has no place for.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$dtype"}

    dtype: Literal["float32", "float16"] = "float32"
    chunk_size: int = 32
    max_context: int = 4096
    _model: Any = field(default=None, init=False, repr=False)
    _tokenizer: Any = field(default=None, init=False, repr=False)
    _keys: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _steps: dict[int, Any] = field(default_factory=dict, init=False, repr=False)
    _vocab_size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in ("chunk_size", "max_context"):
            if getattr(self, name) < 1:
                raise Refusal(f"{getattr(self, name)} is less than 1", field=name)

    def hello(self) -> Hello:
        versions = {name: importlib.metadata.version(name) for name in ("tinygrad", "numpy")}
        renderer = type(Device[Device.DEFAULT].renderer).__name__
        return Hello(versions=versions, isa={"device": os.environ["DEV"], "renderer": renderer})

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        if not is_gguf(model):
            raise Refusal(f"{model} is no GGUF file", field="model", remedy="tinygrad's language models are read from GGUF")
        os.environ["HALF"] = str(int(self.dtype == "float16"))
        self._model = self._tokenizer = None
        self._steps = {}
        try:
            loaded, keys = Transformer.from_gguf(model, self.max_context)
        except (KeyError, ValueError, AssertionError, RuntimeError, OSError) as error:
            text = f"tinygrad does not load {model.name}: {type(error).__name__}: {error}"
            raise Refusal(text, field="model", remedy="give a GGUF file of an architecture that tinygrad knows") from error
        self._model, self._keys = loaded, keys
        self._vocab_size = len(keys["tokenizer.ggml.tokens"])
        stop = keys.get("tokenizer.ggml.eos_token_id")
        return Loaded(
            vocab_size=self._vocab_size,
            context_length=loaded.max_context,
            bos_token_id=keys.get("tokenizer.ggml.bos_token_id"),
            eos_token_ids=() if stop is None else (int(stop),),
            details={
                "dtype": self.dtype,
                "architecture": keys["general.architecture"],
                "prefill_chunk": self._chunk(),
                "unused": _unused(model, loaded),
            },
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Logits [T, V] through tinygrad's cache, in pieces or token by token."""
        ids = self._checked(token_ids)
        self._forget()
        return Scored(self._pass(ids, 0, 1 if mode == "decode" else self._chunk()))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """Greedy, with the logits that tinygrad's own loop does not give."""
        ids, chosen, rows = self._checked(token_ids, max_new_tokens), list[int](), list[np.ndarray]()
        self._forget()
        row = self._pass(ids, 0, self._chunk())[-1] if max_new_tokens else None
        while len(chosen) < max_new_tokens and not (chosen and chosen[-1] in stop):
            if chosen:
                row = self._pass(chosen[-1:], len(ids) + len(chosen) - 1, 1)[-1]
            assert row is not None
            rows.append(row)
            chosen.append(int(row.argmax()))
        logits = np.stack(rows) if rows else np.empty((0, self._vocab_size), np.float32)
        return Generated(chosen, logits, "stop" if chosen and chosen[-1] in stop else "length")

    def tokenize(self, text: str) -> list[int]:
        tokenizer = self._loaded_tokenizer()
        return [int(token) for token in [*tokenizer.prefix(), *tokenizer.encode(text)]]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return str(self._loaded_tokenizer().decode(list(token_ids)))

    def _chunk(self) -> int:
        return 1 if self._model.has_recurrent_block else self.chunk_size

    def _forget(self) -> None:
        """A cache of attention is written over; a recurrent state is not."""
        resets = [reset for block in self._model.blk for reset in block._state_reset_ops()]
        if resets:
            Tensor.realize(*resets)

    def _pass(self, ids: list[int], start: int, size: int) -> np.ndarray:
        """Logits of `ids` at the positions from `start` on; what the last piece is filled up with lies behind them."""
        step = self._steps.setdefault(size, TinyJit(self._forward))
        place = UOp.variable("start_pos", 0, self._model.max_context - 1)
        rows = []
        for at in range(0, len(ids), size):
            piece = ids[at : at + size]
            tokens = Tensor([piece + [0] * (size - len(piece))], dtype="int32").contiguous().realize()
            rows.append(step(tokens, place.bind(start + at)).numpy()[0, : len(piece)])
        return np.concatenate(rows)

    def _forward(self, tokens: Any, start: Any) -> Any:
        """The forward pass of `Transformer`, with the logits of every position instead of a token."""
        x = self._model.token_embd(tokens).float()
        for block in self._model.blk:
            x = block(x, start)
        return self._model.output(self._model.output_norm(x)).float().realize()

    def _checked(self, token_ids: Sequence[int], more: int = 0) -> list[int]:
        if self._model is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        if wrong := [token for token in token_ids if not 0 <= token < self._vocab_size]:
            raise Refusal(f"token id {wrong[0]} is outside the vocabulary of {self._vocab_size}", field="token_ids")
        filled = -(-len(token_ids) // self._chunk()) * self._chunk()
        if max(filled, len(token_ids) + more) > self._model.max_context:
            text = f"{len(token_ids) + more} positions do not fit the context of {self._model.max_context}"
            raise Refusal(text, field="max_context", remedy="raise max_context or shorten the prompt")
        return [int(token) for token in token_ids]

    def _loaded_tokenizer(self) -> Any:
        if self._model is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        if self._tokenizer is None:
            try:
                self._tokenizer = SimpleTokenizer.from_gguf_kv(self._keys)
            except (KeyError, ValueError) as error:
                raise Refusal(f"tinygrad does not take this tokenizer: {error}", field="model") from error
        return self._tokenizer


def _unused(file: Path, model: Any) -> list[str]:
    """Names of the file's tensors that the model has no place for, under this name or the one tinygrad gives it."""
    taken = set(get_state_dict(model))
    return sorted(name for name in gguf_load(file)[1] if not {name, name.replace("post_attention_norm", "ffn_norm")} & taken)
