"""The engine `llamacpp`: any libllama build, through the llama-cpp-python bindings of the same version."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines._libllama import Library, open_library
from logitproof.engines._llamacpp_context import Asked, Context
from logitproof.engines._llamacpp_taps import TAPS, Recorder
from logitproof.errors import Refusal
from logitproof.files.nearest import meant
from logitproof.protocol.sampler import Sampling
from logitproof.protocol.sink import RowSink
from logitproof.protocol.taps import wanted

KvType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
FACTS = ("file type", "arch ", "n_rot", "rope", "freq_", "n_ctx_orig_yarn", "mrope")
"""What llama.cpp prints about a model that its API does not tell: the lines `print_info: …` that are kept."""
WITH_GELU = ("gemma",)
"""Architectures, by the start of their name, whose GELU ggml's CPU kernels look up in a table of float16."""
ROUND_CONTEXT = 256
"""llama.cpp rounds a context up to this; asking for it outright keeps what is recorded true."""


@dataclass
class LlamaCpp(Engine):
    """llama.cpp through libllama: full-vocabulary logits at every position, prefill and decode.

    `library` is the folder (or libllama file) of any build of the bindings' version, else the bundled
    one; `backend` the file of a CPU variant, for builds that load theirs at run time, and `variant` its name where it is
    `libggml-cpu-VARIANT.so` beside the library (`make isa` builds such a folder). The KV cache is
    float32 unless asked otherwise: llama.cpp's own default is f16, and its flash attention computes in
    f16 whatever the log says, so it wants another `kv_type`. `repack` lets it rewrite quantized
    weights for its fastest kernels, which changes their rounding by another 0.1 logits and, in builds by
    GCC 12, crashes on AMX machines; so it is off. `mmap` maps the file instead of reading it. `sequences`
    decodes others beside each one, in the same batches and the same cache; `reuse` keeps the part of the cache
    that the next sequence begins with. `adapter` is a LoRA adapter as a GGUF file, applied in full.
    """

    arithmetic: ClassVar[dict[str, Any]] = {
        "blocks": True,
        "cache": ["$kv_type", "$kv_type_v"],
        "lanes": 8,
        "rope": "iterated",
        "flash": "$flash_attention",
        "delta": "steps",
        "gelu": "float16",
    }
    instruction_sets: ClassVar[dict[str, dict[str, Any]]] = {
        # llama.cpp keeps its AMX kernels in a buffer type of their own, which only repacking fills.
        "amx": {
            "options": {"variant": "sapphirerapids", "repack": True},
            "evidence": {"isa.features of CPU": r"\bAMX_INT8\b", "isa.weights": r"\bAMX\b"},
        },
        "avx512": {
            "options": {"variant": "skylakex"},
            "evidence": {"isa.features of CPU": r"\bAVX512\b"},
            "never": {"isa.features of CPU": r"\bAMX", "isa.weights": r"\bAMX\b"},
        },
        "avx2": {
            "options": {"variant": "haswell"},
            "evidence": {"isa.features of CPU": r"\bAVX2\b"},
            "never": {"isa.features of CPU": r"\b(AVX512|AMX)"},
        },
        "neon": {
            "options": {"variant": "armv8.0_1"},
            "evidence": {"isa.features of CPU": r"\bNEON\b"},
            "never": {"isa.features of CPU": r"\b(SVE|SME)"},
        },
    }
    library: str | None = None
    backend: str | None = None
    variant: str | None = None
    threads: int = 1
    batch_size: int = 512
    ubatch_size: int | None = None
    kv_type: KvType = "f32"
    kv_type_v: KvType | None = None
    flash_attention: bool = False
    repack: bool = False
    context: int | None = None
    mmap: bool = True
    sequences: int = 1
    reuse: bool = False
    adapter: str | None = None
    _lib: Library | None = field(default=None, init=False, repr=False)
    _model: Any = field(default=None, init=False, repr=False)
    _vocab: Any = field(default=None, init=False, repr=False)
    _context: Context | None = field(default=None, init=False, repr=False)
    _dispatched: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _vocab_size: int = field(default=0, init=False)
    _trained_length: int = field(default=0, init=False)
    _watching: Any = field(default=None, init=False, repr=False)
    _lora: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("threads", "batch_size", "ubatch_size", "context", "sequences"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise Refusal(f"{value} is less than 1", field=name)
        if self.flash_attention and "f32" in (self.kv_type, self.kv_type_v or self.kv_type):
            raise Refusal(
                "llama.cpp's flash attention computes a float32 KV cache in f16, and its log says f32 all the same",
                field="kv_type",
                remedy="say kv_type: f16 with flash_attention, or leave flash_attention off",
            )

    def hello(self) -> Hello:
        return Hello(versions=self._library().versions(), sample=True, taps=TAPS, isa=self._library().features())

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        library = self._library()
        self._free()
        llama = library.llama
        params = llama.llama_model_default_params()
        # Repacked kernels round differently, and GCC 12 builds of the AMX ones crash at the first decode.
        params.use_extra_bufts = self.repack
        params.n_gpu_layers = 0
        params.load_mode = llama.LLAMA_LOAD_MODE_MMAP if self.mmap else llama.LLAMA_LOAD_MODE_NONE
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
        facts = [line for line in library.log.matching("print_info: ") if line.split(": ")[1].startswith(FACTS)]
        self._dispatched = library.dispatched()
        self._lora = self._open_adapter() if self.adapter else None
        self._open_context(self.context or ROUND_CONTEXT)
        eos = [token for token in range(self._vocab_size) if llama.llama_vocab_is_eog(self._vocab, token)]
        bos = llama.llama_vocab_bos(self._vocab)
        return Loaded(
            vocab_size=self._vocab_size,
            context_length=self._trained_length,
            bos_token_id=bos if bos >= 0 else None,
            eos_token_ids=tuple(eos),
            details=self._details() | self._rounded() | {"log": [*facts, *self._open.log], "sampler_noise": "mt19937"},
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        logits = np.empty((len(token_ids), self._vocab_size), np.float32)
        for start, block in self._passes(token_ids, mode):
            logits[start : start + len(block)] = block
        return Scored(logits, self._dispatched)

    def score_rows(self, token_ids: Sequence[int], mode: Mode, rows: RowSink) -> Mapping[str, str]:
        """The same logits, written out of llama.cpp's own buffer; of tokens before `rows.first` none are computed."""
        rows.skip(min(rows.first, len(token_ids)))
        for _, block in self._passes(token_ids, mode, rows.first):
            rows.write(block)
        return self._dispatched

    def _passes(self, token_ids: Sequence[int], mode: Mode, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Batch after batch: the position of its first row from `first` on, and the rows [n, V], valid until the next."""
        self._begin(len(token_ids), token_ids)
        step = self.batch_size if mode == "prefill" else 1
        for start in range(0, len(token_ids), step):
            batch = token_ids[start : start + step]
            wanted = min(max(first - start, 0), len(batch))
            yield start + wanted, self._open.decode(batch, start, first=wanted)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        if not token_ids:
            raise Refusal("an empty prompt has no continuation", field="token_ids")
        # The last new token is never fed.
        kept = self._begin(len(token_ids) + max(max_new_tokens - 1, 0), token_ids, reuse=self.reuse)
        for start in range(kept, len(token_ids), self.batch_size):
            row = self._open.last(token_ids[start : start + self.batch_size], start)
        new: list[int] = []
        rows: list[np.ndarray] = []
        while len(new) < max_new_tokens:
            rows.append(row)
            new.append(int(np.argmax(row)))
            if new[-1] in stop:
                return Generated(new, np.stack(rows), "stop", self._dispatched)
            if len(new) < max_new_tokens:
                row = self._open.last(new[-1:], len(token_ids) + len(new) - 1)
        logits = np.stack(rows) if rows else np.empty((0, self._vocab_size), np.float32)
        return Generated(new, logits, "length", self._dispatched)

    def sample(
        self, token_ids: Sequence[int], count: int, max_new_tokens: int, stop: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """Draw with llama.cpp's own samplers in the order of its tools: penalties, top-k, top-p, min-p, temperature."""
        if not token_ids:
            raise Refusal("an empty prompt has no continuation", field="token_ids")
        drawn = []
        for number in range(count):
            self._begin(len(token_ids) + max_new_tokens, token_ids)
            with self._sampler(sampling, (sampling.seed * 1_000_003 + number) % 2**32, token_ids) as chain:
                for start in range(0, len(token_ids), self.batch_size):
                    self._open.last(token_ids[start : start + self.batch_size], start)
                new: list[int] = []
                while len(new) < max_new_tokens:
                    new.append(int(self._library().llama.llama_sampler_sample(chain, self._open.handle, -1)))
                    if new[-1] in stop:
                        break
                    if len(new) < max_new_tokens:
                        self._open.last(new[-1:], len(token_ids) + len(new) - 1)
            drawn.append(new)
        return drawn

    def taps(
        self, token_ids: Sequence[int], mode: Mode, names: Sequence[str], given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Nodes of ggml's graph by their canonical names; the context is opened anew with an eval callback."""
        if given:
            raise Refusal("llama.cpp cannot be given the tensors of another engine", field="given")
        self._loaded()
        recorder = self._recorder(names, len(token_ids))
        self._watching = self._library().llama.ggml_backend_sched_eval_callback(recorder)
        try:
            self._free_context()
            self._begin(len(token_ids), token_ids)
            step = self.batch_size if mode == "prefill" else 1
            logits = []
            for start in range(0, len(token_ids), step):
                logits.append(self._open.decode(token_ids[start : start + step], start).copy())
                recorder.end_of_batch()
        finally:
            self._free_context()
            self._watching = None
        taps = recorder.kept()
        return taps | ({"logits": np.concatenate(logits)} if wanted("logits", names) else {})

    def _recorder(self, names: Sequence[str], positions: int) -> Recorder:
        name_of_operation = self._library().function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
        architecture = self._metadata("general.architecture") or ""
        groups, heads, state = (
            int(self._metadata(f"{architecture}.ssm.{key}") or 0) for key in ("group_count", "time_step_rank", "state_size")
        )
        value_heads = (groups, heads) if groups and heads else None
        return Recorder(names, architecture, name_of_operation, value_heads, 2 * groups * state, positions)

    def _metadata(self, key: str) -> str:
        text = ctypes.create_string_buffer(256)
        length = self._library().llama.llama_model_meta_val_str(self._model, key.encode(), text, len(text))
        return text.value.decode("utf-8", "replace") if length >= 0 else ""

    @contextlib.contextmanager
    def _sampler(self, sampling: Sampling, seed: int, token_ids: Sequence[int]) -> Iterator[Any]:
        llama = self._library().llama
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        try:
            steps = [
                llama.llama_sampler_init_penalties(self._vocab_size, self._open.size, sampling.repetition_penalty, 0.0, 0.0),
                llama.llama_sampler_init_top_k(sampling.top_k),
                llama.llama_sampler_init_top_p(sampling.top_p, 1),
                llama.llama_sampler_init_min_p(sampling.min_p, 1),
                llama.llama_sampler_init_temp(sampling.temperature),
                llama.llama_sampler_init_dist(seed),
            ]
            for step in steps:
                llama.llama_sampler_chain_add(chain, step)
            for token in token_ids:
                llama.llama_sampler_accept(chain, token)
            yield chain
        finally:
            llama.llama_sampler_free(chain)

    def tokenize(self, text: str) -> list[int]:
        llama, data = self._tokenizer(), text.encode()
        room = len(data) + 16
        for _ in range(2):
            ids = (ctypes.c_int32 * room)()
            count = llama.llama_tokenize(self._vocab, data, len(data), ids, room, True, True)
            if count >= 0:
                return list(ids[:count])
            room = -count
        raise RuntimeError(f"llama_tokenize asks for {-count} places after it asked for {room}")

    def detokenize(self, token_ids: Sequence[int]) -> str:
        llama = self._tokenizer()
        self._check_ids(token_ids)
        count, room = len(token_ids), 256 * max(len(token_ids), 1)
        ids = (ctypes.c_int32 * max(count, 1))(*token_ids)
        text = ctypes.create_string_buffer(room)
        length = llama.llama_detokenize(self._vocab, ids, count, text, room, False, True)
        if length < 0:
            raise RuntimeError(f"llama_detokenize asks for {-length} bytes, {room} were given")
        return text.raw[:length].decode("utf-8", "replace")

    def _library(self) -> Library:
        if self._lib is None:
            self._lib = open_library(self.library, self._backend_file())
        return self._lib

    def _backend_file(self) -> str | None:
        if self.variant is None:
            return self.backend
        if self.backend is not None or self.library is None:
            remedy = "give the folder of a build with variants as `library`, and no `backend`"
            raise Refusal("a variant is looked for beside the library", field="variant", remedy=remedy)
        folder = Path(self.library) if Path(self.library).is_dir() else Path(self.library).parent
        return str(folder / f"libggml-cpu-{self.variant}.so")

    def _tokenizer(self) -> Any:
        """The bindings, once it is sure that there is a tokenizer: without one libllama ends the process."""
        llama = self._loaded().llama
        if llama.llama_vocab_type(self._vocab) == llama.LLAMA_VOCAB_TYPE_NONE:
            raise Refusal("this GGUF file carries no tokenizer", field="model", remedy="give token_ids in the suite")
        return llama

    def _loaded(self) -> Library:
        if not self._model:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        return self._library()

    def _check_ids(self, token_ids: Sequence[int]) -> None:
        wrong = [token for token in token_ids if not 0 <= token < self._vocab_size]
        if wrong:
            raise Refusal(f"token id {wrong[0]} is outside the vocabulary of {self._vocab_size}", field="token_ids")

    def _begin(self, positions: int, token_ids: Sequence[int], *, reuse: bool = False) -> int:
        """A cache with room for `positions`, empty (a recurrent state too) or holding the first n of `token_ids`: n."""
        self._loaded()
        self._check_ids(token_ids)
        if positions > self._trained_length:
            raise Refusal(
                f"{positions} tokens exceed the model's context of {self._trained_length}",
                field="token_ids",
                remedy="shorten the prompt or its max_new_tokens",
            )
        if self.context is not None and positions > self.context:
            raise Refusal(f"{positions} tokens exceed the context of {self.context} that was asked for", field="context")
        if self._context is None or positions > self._context.size:
            self._open_context(self.context or -(-positions // ROUND_CONTEXT) * ROUND_CONTEXT)
        return self._open.begin(token_ids, reuse=reuse)

    @property
    def _open(self) -> Context:
        """The context that the last request opened."""
        assert self._context is not None
        return self._context

    def _open_context(self, positions: int) -> None:
        self._free_context()
        kinds = self.kv_type, self.kv_type_v or self.kv_type
        asked = Asked(self.threads, self.batch_size, self.ubatch_size, kinds, self.flash_attention, self.sequences)
        self._context = Context(
            self._library(), self._model, self._vocab_size, asked, positions, watching=self._watching, lora=self._lora
        )

    def _open_adapter(self) -> Any:
        """The adapter, which lives as long as the model."""
        path, library = Path(self.adapter or ""), self._library()
        if not path.is_file():
            raise Refusal(
                f"no such file: {path}{meant(path)}", field="adapter", remedy="`logitproof lora` makes one of a PEFT folder"
            )
        adapter = library.llama.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise Refusal(f"llama.cpp refuses the adapter: {library.log.errors()}", field="adapter")
        return adapter

    def _details(self) -> dict[str, Any]:
        """The model and what is in effect after loading: not what was asked for."""
        library = self._library()
        text = ctypes.create_string_buffer(256)
        library.llama.llama_model_desc(self._model, text, 256)
        return {
            "library": [str(path) for path in library.files()],
            "model": text.value.decode("utf-8", "replace"),
            "parameters": library.llama.llama_model_n_params(self._model),
            **self._open.settings(),
        }

    def _rounded(self) -> dict[str, Any]:
        """Operations that are narrower than the weights and the cache, as `arithmetic`."""
        text = ctypes.create_string_buffer(64)
        self._library().llama.llama_model_meta_val_str(self._model, b"general.architecture", text, 64)
        has_gelu = text.value.decode("utf-8", "replace").startswith(WITH_GELU)
        return {"arithmetic": {"gelu": "float16"}} if has_gelu else {}

    def _free(self) -> None:
        self._free_context()
        if self._model:
            self._library().llama.llama_model_free(self._model)
        self._model = None

    def _free_context(self) -> None:
        if self._context is not None:
            self._context.close()
        self._context = None
