"""The engine `llamacpp`: any libllama build, through the llama-cpp-python bindings of the same version."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Refusal, Scored
from logitproof.engines._libllama import Library, open_library

KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
KV_TYPES: dict[KvType, int] = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2}
"""ggml's own numbers of these types."""
ROUND_CONTEXT = 256
"""llama.cpp rounds a context up to this; asking for it outright keeps what is recorded true."""


@dataclass
class LlamaCpp(Engine):
    """llama.cpp through libllama: full-vocabulary logits at every position, prefill and decode.

    `library` is the folder (or libllama file) of any build of the bindings' version, else the bundled
    one; `backend` a CPU variant to load by path. The KV cache is float32 unless asked otherwise:
    llama.cpp's own default is f16. `repack` lets it rewrite quantized weights for its fastest kernels,
    which changes their rounding by another 0.1 logits and, in builds by GCC 12, crashes on AMX machines;
    so it is off.
    """

    library: str | None = None
    backend: str | None = None
    threads: int = 1
    batch_size: int = 512
    ubatch_size: int | None = None
    kv_type: KvType = "f32"
    kv_type_v: KvType | None = None
    flash_attention: bool = False
    repack: bool = False
    context: int | None = None
    _lib: Library | None = field(default=None, init=False, repr=False)
    _model: Any = field(default=None, init=False, repr=False)
    _vocab: Any = field(default=None, init=False, repr=False)
    _context: Any = field(default=None, init=False, repr=False)
    _context_size: int = field(default=0, init=False)
    _vocab_size: int = field(default=0, init=False)
    _trained_length: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        for name in ("threads", "batch_size", "ubatch_size", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"{value} is less than 1", field=name)

    def hello(self) -> Hello:
        library = self._library()
        return Hello(versions=library.versions(), isa=library.features())

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        library = self._library()
        self._free()
        llama = library.llama
        params = llama.llama_model_default_params()
        params.use_extra_bufts = self.repack
        params.n_gpu_layers = 0
        library.log.clear()
        self._model = llama.llama_model_load_from_file(str(model).encode(), params)
        if not self._model:
            raise Refusal(
                f"llama.cpp cannot load {model.name}: {library.log.errors()}",
                field="model",
                remedy="give a complete GGUF file of an architecture that this llama.cpp knows",
            )
        self._vocab = llama.llama_model_get_vocab(self._model)
        self._vocab_size = llama.llama_vocab_n_tokens(self._vocab)
        self._trained_length = llama.llama_model_n_ctx_train(self._model)
        self._open_context(self.context or ROUND_CONTEXT)
        eos = [token for token in range(self._vocab_size) if llama.llama_vocab_is_eog(self._vocab, token)]
        bos = llama.llama_vocab_bos(self._vocab)
        return Loaded(
            vocab_size=self._vocab_size,
            context_length=self._trained_length,
            bos_token_id=bos if bos >= 0 else None,
            eos_token_ids=tuple(eos),
            details=self._details(),
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        self._begin(len(token_ids))
        step = self.batch_size if mode == "prefill" else 1
        logits = np.empty((len(token_ids), self._vocab_size), np.float32)
        for start in range(0, len(token_ids), step):
            logits[start : start + step] = self._decode(token_ids[start : start + step], start, every=True)
        return Scored(logits)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        self._begin(len(token_ids) + max_new_tokens)
        for start in range(0, len(token_ids), self.batch_size):
            row = self._decode(token_ids[start : start + self.batch_size], start, every=False)[-1]
        new: list[int] = []
        rows: list[np.ndarray] = []
        while len(new) < max_new_tokens:
            rows.append(row)
            new.append(int(np.argmax(row)))
            if new[-1] in stop:
                return Generated(new, np.stack(rows), "stop")
            if len(new) < max_new_tokens:
                row = self._decode(new[-1:], len(token_ids) + len(new) - 1, every=False)[-1]
        return Generated(new, np.stack(rows) if rows else np.empty((0, self._vocab_size), np.float32), "length")

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        room = len(data) + 16
        ids = (ctypes.c_int32 * room)()
        count = self._library().llama.llama_tokenize(self._vocab, data, len(data), ids, room, True, True)
        if count < 0:
            raise RuntimeError(f"llama_tokenize asks for {-count} places, {room} were given")
        return list(ids[:count])

    def detokenize(self, token_ids: Sequence[int]) -> str:
        count, room = len(token_ids), 256 * max(len(token_ids), 1)
        ids = (ctypes.c_int32 * max(count, 1))(*token_ids)
        text = ctypes.create_string_buffer(room)
        length = self._library().llama.llama_detokenize(self._vocab, ids, count, text, room, False, True)
        if length < 0:
            raise RuntimeError(f"llama_detokenize asks for {-length} bytes, {room} were given")
        return text.raw[:length].decode("utf-8", "replace")

    # -- below the interface --------------------------------------------------------------------------

    def _library(self) -> Library:
        if self._lib is None:
            self._lib = open_library(self.library, self.backend)
        return self._lib

    def _begin(self, positions: int) -> None:
        """An empty cache with room for `positions`; hybrid models' recurrent state is emptied too."""
        if positions > self._trained_length:
            raise Refusal(
                f"{positions} tokens exceed the model's context of {self._trained_length}",
                field="token_ids",
                remedy="shorten the prompt or its max_new_tokens",
            )
        if positions > self._context_size:
            if self.context is not None:
                raise Refusal(f"{positions} tokens exceed the context of {self.context} that was asked for", field="context")
            self._open_context(-(-positions // ROUND_CONTEXT) * ROUND_CONTEXT)
        llama = self._library().llama
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)

    def _open_context(self, positions: int) -> None:
        library = self._library()
        llama = library.llama
        if self._context:
            llama.llama_free(self._context)
        params = llama.llama_context_default_params()
        params.n_ctx = positions
        params.n_batch = min(self.batch_size, positions)
        params.n_ubatch = min(self.ubatch_size or self.batch_size, params.n_batch)
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = self.threads
        params.type_k = KV_TYPES[self.kv_type]
        params.type_v = KV_TYPES[self.kv_type_v or self.kv_type]
        params.flash_attn_type = (
            llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if self.flash_attention else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        library.log.clear()
        self._context = llama.llama_init_from_model(self._model, params)
        if not self._context:
            raise Refusal(
                f"llama.cpp refuses this context: {library.log.errors()}",
                field="kv_type",
                remedy="a quantized V cache needs flash_attention",
            )
        self._context_size = positions
        self._context_log = library.log.matching("llama_kv_cache", "llama_memory_recurrent", "llama_context:")

    def _decode(self, token_ids: Sequence[int], start: int, *, every: bool) -> np.ndarray:
        """Feed tokens at positions start…; the logits of all of them, or of the last: [n, V], copied."""
        library = self._library()
        llama = library.llama
        count = len(token_ids)
        batch = llama.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for index, token in enumerate(token_ids):
                batch.token[index] = token
                batch.pos[index] = start + index
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = 0
                batch.logits[index] = every or index == count - 1
            library.log.clear()
            if (code := llama.llama_decode(self._context, batch)) != 0:
                raise RuntimeError(f"llama_decode returned {code}: {library.log.errors()}")
        finally:
            llama.llama_batch_free(batch)
        return np.stack([self._row(index) for index in (range(count) if every else [count - 1])])

    def _row(self, index: int) -> np.ndarray:
        pointer = self._library().llama.llama_get_logits_ith(self._context, index)
        if not pointer:
            raise RuntimeError(f"llama.cpp kept no logits of token {index} of the batch")
        return np.ctypeslib.as_array(pointer, (self._vocab_size,)).copy()

    def _details(self) -> dict[str, Any]:
        """What is in effect, as the library says it after loading: not what was asked for."""
        llama = self._library().llama
        text = ctypes.create_string_buffer(256)
        llama.llama_model_desc(self._model, text, 256)
        return {
            "model": text.value.decode("utf-8", "replace"),
            "parameters": llama.llama_model_n_params(self._model),
            "n_batch": llama.llama_n_batch(self._context),
            "n_ubatch": llama.llama_n_ubatch(self._context),
            "threads": llama.llama_n_threads(self._context),
            "log": self._context_log,
        }

    def _free(self) -> None:
        llama = self._library().llama
        if self._context:
            llama.llama_free(self._context)
        if self._model:
            llama.llama_model_free(self._model)
        self._context = self._model = None
