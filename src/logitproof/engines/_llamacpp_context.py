"""A context of llama.cpp: its cache, the batches that are decoded into it, and their logits in its own memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from logitproof.engines._libllama import Library, said_of_context
from logitproof.errors import Refusal
from logitproof.rows.distance import first_difference

KV_TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q4_0": 2}
"""ggml's own numbers of these types."""
QUANTIZED = ("q8_0", "q4_0")


@dataclass(frozen=True)
class Asked:
    """What a context is asked to be, as the engine's options have it."""

    threads: int
    batch_size: int
    ubatch_size: int | None
    kv_types: tuple[str, str]
    flash_attention: bool
    sequences: int


@dataclass
class Context:
    """An open context of `positions` places for one sequence, or more where the library gives more.

    `watching` is called for the nodes of the graph, `lora` an adapter that is applied in full. Raises Refusal of an unfit
    type of the cache, RuntimeError where llama.cpp makes another context than it was asked for.
    """

    library: Library
    model: Any
    vocab_size: int
    asked: Asked
    positions: int
    watching: Any = None
    lora: Any = None
    size: int = field(default=0, init=False)
    log: list[str] = field(default_factory=list, init=False)
    handle: Any = field(default=None, init=False, repr=False)
    _cached: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        library = self.library
        library.log.clear()
        self.handle = library.llama.llama_init_from_model(self.model, self._params())
        if not self.handle:
            text = f"llama.cpp refuses this context: {library.log.errors()}"
            if set(self.asked.kv_types) & set(QUANTIZED):
                raise Refusal(text, field="kv_type", remedy="a quantized V cache needs flash_attention")
            raise RuntimeError(text)
        self.log = library.log.matching("llama_kv_cache", "llama_memory_recurrent", "llama_context:")
        self.size = library.llama.llama_n_ctx(self.handle) // self.asked.sequences
        try:
            self._check()
            self._adapt()
        except RuntimeError:
            self.close()
            raise

    def close(self) -> None:
        """Give its memory back."""
        if self.handle:
            self.library.llama.llama_free(self.handle)
        self.handle, self.size = None, 0
        self._cached.clear()

    def begin(self, token_ids: Sequence[int], *, reuse: bool) -> int:
        """Empty the cache (a recurrent state too), or keep the first n of `token_ids` that it holds: n."""
        llama = self.library.llama
        memory = llama.llama_get_memory(self.handle)
        common = first_difference(self._cached, token_ids[:-1])
        if reuse and common > 0 and llama.llama_memory_seq_rm(memory, 0, common, -1):
            del self._cached[common:]
            return common
        llama.llama_memory_clear(memory, True)
        self._cached.clear()
        return 0

    def last(self, token_ids: Sequence[int], start: int) -> np.ndarray:
        """Feed tokens at positions start…; the logits [V] of the last, copied."""
        return np.array(self.decode(token_ids, start, first=len(token_ids) - 1)[-1])

    def decode(self, token_ids: Sequence[int], start: int, *, first: int = 0) -> np.ndarray:
        """Feed tokens at positions start…; the logits [n, V] of those from `first` on, valid until the next call."""
        llama, count, sequences = self.library.llama, len(token_ids), self.asked.sequences
        batch = llama.llama_batch_init(count * sequences, 0, 1)
        try:
            batch.n_tokens = count * sequences
            for place in range(count * sequences):
                # the others get the same tokens in other orders, so that a mix-up cannot go unseen
                index, sequence = place % count, place // count
                batch.token[place] = token_ids[(index + sequence) % count if count > 1 else 0]
                batch.pos[place] = start + index
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = sequence
                batch.logits[place] = sequence == 0 and index >= first
            self.library.log.clear()
            if (code := llama.llama_decode(self.handle, batch)) != 0:
                raise RuntimeError(f"llama_decode returned {code}: {self.library.log.errors()}")
        finally:
            llama.llama_batch_free(batch)
        self._cached[start:] = token_ids
        return self._rows(range(first, count))

    def settings(self) -> dict[str, Any]:
        """What is in effect, as the library says it: K and V type of each cache come from its log alone."""
        llama = self.library.llama
        return {
            "n_ctx": self.size,
            "n_batch": llama.llama_n_batch(self.handle),
            "n_ubatch": llama.llama_n_ubatch(self.handle),
            "threads": llama.llama_n_threads(self.handle),
            **said_of_context(self.log),
        }

    def _rows(self, indexes: Sequence[int]) -> np.ndarray:
        """Logits of these tokens of the batch, in llama.cpp's own memory: [n, V]. Rows of another width would lie elsewhere."""
        if not indexes:
            return np.empty((0, self.vocab_size), np.float32)
        llama = self.library.llama
        pointers = [llama.llama_get_logits_ith(self.handle, index) for index in indexes]
        if not all(pointers):
            raise RuntimeError(f"llama.cpp kept no logits of {sum(not pointer for pointer in pointers)} tokens of the batch")
        places = [ctypes.addressof(pointer.contents) for pointer in pointers]
        width = 4 * self.vocab_size
        if any(after - before != width for before, after in pairwise(places)):
            raise RuntimeError(f"rows of llama.cpp's logits are not {self.vocab_size} floats apart")
        return np.ctypeslib.as_array(pointers[0], (len(pointers), self.vocab_size))

    def _params(self) -> Any:
        llama, asked = self.library.llama, self.asked
        params = llama.llama_context_default_params()
        params.n_ctx = self.positions * asked.sequences
        params.n_seq_max, params.kv_unified = asked.sequences, asked.sequences > 1
        params.n_batch = min(asked.batch_size, self.positions) * asked.sequences
        params.n_ubatch = min(asked.ubatch_size or params.n_batch, params.n_batch)
        params.n_threads = params.n_threads_batch = asked.threads
        params.type_k, params.type_v = (KV_TYPES[name] for name in asked.kv_types)
        # A build with a GPU would else send long prompts there, and only those.
        params.op_offload = params.offload_kqv = False
        if self.watching is not None:
            params.cb_eval = self.watching
        params.flash_attn_type = (
            llama.LLAMA_FLASH_ATTN_TYPE_ENABLED if asked.flash_attention else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        return params

    def _adapt(self) -> None:
        if self.lora is None:
            return
        adapters, scales = (type(self.lora) * 1)(self.lora), (ctypes.c_float * 1)(1.0)
        if self.library.llama.llama_set_adapters_lora(self.handle, adapters, 1, scales) != 0:
            raise RuntimeError(f"llama.cpp does not apply the adapter: {self.library.log.errors()}")

    def _check(self) -> None:
        """Compare what the library says it made with what it was asked for: nothing is taken on trust."""
        settings, wish = self.settings(), self._params()
        asked = {
            "n_batch": wish.n_batch, "n_ubatch": wish.n_ubatch, "threads": self.asked.threads,
            "flash_attention": "enabled" if self.asked.flash_attention else "disabled",
        }  # fmt: skip
        if settings["kv_types"] or not any(line.startswith("llama_memory_recurrent") for line in self.log):
            asked["kv_types"] = [list(self.asked.kv_types)]
        wrong = [
            f"{name} is {settings[name]}, asked for was {value}" for name, value in asked.items() if settings[name] != value
        ]
        if wrong or self.size < self.positions:
            raise RuntimeError(f"llama.cpp made another context: {'; '.join(wrong) or f'n_ctx is {self.size}'}")
