"""llama.cpp through its C API alone, for tests: tokens of a text, and logits of a prefill in float32."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np

# the bindings' own callback prints every line, and fails on lines that cut a character in two
_SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


class DirectModel:
    """One GGUF file; float32 KV cache, no flash attention, no repacked weights, one thread."""

    def __init__(self, path: Path) -> None:
        llama_cpp.llama_log_set(_SILENT, None)
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        assert self.model, f"llama.cpp cannot load {path}"
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def tokens(self, text: str, special: bool = True) -> list[int]:
        """Token ids of `text`, with the begin-of-text token where the model wants one."""
        data = text.encode()
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), ids, room, True, special)
        assert count >= 0, "llama.cpp wants more room for its tokens"
        return list(ids[:count])

    def logits(self, tokens: list[int]) -> np.ndarray:
        """Logits of every position, shape (T, V)."""
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = 512
        options.n_threads = options.n_threads_batch = 1
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        context = llama_cpp.llama_init_from_model(self.model, options)
        assert context, "llama.cpp cannot make a context"
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at], batch.logits[at] = token, at, 1
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
        assert llama_cpp.llama_decode(context, batch) == 0
        width = llama_cpp.llama_vocab_n_tokens(self.vocab)
        rows = [
            np.ctypeslib.as_array(
                ctypes.cast(llama_cpp.llama_get_logits_ith(context, at), ctypes.POINTER(ctypes.c_float)), (width,)
            ).copy()
            for at in range(len(tokens))
        ]
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        return np.stack(rows)
