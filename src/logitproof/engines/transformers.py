"""The reference: Hugging Face transformers on PyTorch, from a safetensors folder or a dequantized GGUF."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from logitproof import catalog
from logitproof.engines import Answered, Asked, Engine, Generated, Hello, Loaded, Mode, Scored, Working
from logitproof.engines import _streaming as streaming
from logitproof.errors import ContractError, Refusal, did_you_mean
from logitproof.files.worded import in_words
from logitproof.protocol.sampler import Sampling, draw, probabilities
from logitproof.protocol.sink import RowSink
from logitproof.reference import float64 as wide
from logitproof.reference.cache import through_cache
from logitproof.reference.kernels_seen import Kernels
from logitproof.reference.model import Loading, Reference, load
from logitproof.reference.streamed import Streamed
from logitproof.reference.tap_values import Taps
from logitproof.reference.taps import TAPS, Watch, pass_through
from logitproof.reference.versions import instruction_set, versions
from logitproof.reference.widened import widen

BLOCK = 64
"""Positions whose logits are written at a time."""


@dataclass
class Transformers(Engine):
    """Hugging Face transformers on PyTorch: the reference, never with network or remote code.

    dtype float64 computes in float64 throughout, also where the model's code asks for float32.
    attention is the implementation; chunk is the number of positions per prefill pass (all in one if
    absent); batch puts longer sequences beside each prefill, with padding on one side; threads is PyTorch's;
    mutation plants a known bug with mutation_options; adapter is the folder of a PEFT LoRA adapter, added to what
    each matrix computes, or into the matrix itself with merge_adapter. offload: stream leaves the weights on disk and reads
    every layer once for all sequences that are asked together: prefill of models larger than memory. float32_layers are
    decoder layers that compute in float32 whatever dtype is, as `logitproof bisect layers` asks for.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$dtype"}
    instruction_sets: ClassVar[dict[str, dict[str, Any]]] = {
        "amx": {
            "environment": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX", "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"},
            "evidence": {"isa.matmul": r"oneDNN \S*amx"},
        },
        "avx512": {
            "environment": {
                "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",
                "ATEN_CPU_CAPABILITY": "avx512",
                "MKL_ENABLE_INSTRUCTIONS": "AVX512",
                "ONEDNN_VERBOSE": "1",
                "MKL_VERBOSE": "1",
            },
            "evidence": {
                "isa.matmul": r"oneDNN \S*avx512|oneDNN \S+ on Intel AVX-512|MKL \w+ on [^;]*AVX-512",
                "isa.aten": "^AVX512$",
            },
            "never": {"isa.matmul": "(?i)amx"},
        },
        "avx2": {
            "environment": {
                "ONEDNN_MAX_CPU_ISA": "AVX2",
                "ATEN_CPU_CAPABILITY": "avx2",
                "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                "ONEDNN_VERBOSE": "1",
                "MKL_VERBOSE": "1",
            },
            "evidence": {
                "isa.matmul": r"^ATen AVX2|oneDNN \S*avx2|MKL \w+ on [^;]*AVX2",
                "isa.aten": "^AVX2$",
                "isa.onednn": "^Intel AVX2$",
            },
            "never": {"isa.matmul": "(?i)avx-?512|avx10|amx"},
        },
    }
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    attention: Literal["eager", "sdpa"] = "eager"
    device: str = "cpu"
    threads: int | None = None
    mutation: str | None = None
    mutation_options: dict[str, Any] | None = None
    chunk: int | None = None
    batch: int = 1
    padding: Literal["left", "right"] = "right"
    adapter: str | None = None
    merge_adapter: bool = False
    offload: Literal["none", "stream"] = "none"
    float32_layers: list[int] | None = None
    _streamed: Any = field(init=False, default=None, repr=False)  # a Streamed: options are validated with every field's type
    _reference: Reference | None = field(init=False, default=None, repr=False)
    _planted: Any = field(init=False, default=None, repr=False)
    _watch: Any = field(init=False, default=None, repr=False)
    _sampler: Any = field(init=False, default=None, repr=False)
    _reader: Any = field(init=False, default=None, repr=False)
    _kernels: Any = field(init=False, default_factory=Kernels, repr=False)

    def hello(self) -> Hello:
        """Versions of every library that can change a logit, and the instruction set as torch reports it."""
        if self.offload == "stream":
            return Hello(versions=versions(), modes=("prefill",), isa=instruction_set(self.device))
        return Hello(versions=versions(), sample=True, taps=TAPS, isa=instruction_set(self.device))

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Load a safetensors folder, or a GGUF file with the config of `config`, strictly."""
        self._check_options()
        if self._planted is not None:
            self._planted.close()
        self._reference = self._streamed = None
        adapter = None if self.adapter is None else Path(self.adapter)
        loading = Loading(self.dtype, self.attention, self.device, adapter, self.merge_adapter)
        if self.offload == "stream":
            self._streamed = Streamed(model, config, loading)
            self._reference = self._streamed.reference
            return self._loaded()
        self._reference = load(model, config, loading)
        widen(self._model, self.float32_layers or ())
        # before any bug is planted, so that a bug of attention stands around it and is seen
        self._watch = Watch(self._model)
        self._plant()
        return self._loaded()

    @property
    def reference(self) -> Reference:
        """The model that is loaded; raises Refusal where none is."""
        if self._reference is None:
            raise Refusal("no model is loaded", remedy="send load first")
        return self._reference

    @property
    def _model(self) -> Any:
        return self.reference.model

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Logits [T, V]: in one pass without cache, in pieces of `chunk`, or token by token through the cache."""
        ids = self._checked(token_ids)
        if self._streamed is not None:
            with self._kernels.watched():
                rows = streaming.rows(self._streamed, self._checked_stream(ids, mode))
            return Scored(rows, self._kernels.report)
        with self._computing():
            logits = np.concatenate(list(self._passes(ids, mode)))
        return Scored(logits, self._kernels.report)

    def score_rows(self, token_ids: Sequence[int], mode: Mode, rows: RowSink) -> Mapping[str, str]:
        """The same logits, each piece written when its pass has ended."""
        if self._streamed is not None:
            return super().score_rows(token_ids, mode, rows)
        ids = self._checked(token_ids)
        with self._computing():
            for block in self._passes(ids, mode):
                rows.write(block)
        return self._kernels.report

    def score_many(self, asked: Sequence[Asked], mode: Mode) -> Iterator[Answered | Working]:
        """With weights on disk all sequences go through each layer together; else one after another."""
        if self._streamed is None:
            yield from super().score_many(asked, mode)
            return
        with self._kernels.watched():
            yield from streaming.answers(
                self._streamed, asked, lambda token_ids: self._checked_stream(self._checked(token_ids), mode)
            )

    def _checked_stream(self, ids: torch.Tensor, mode: Mode) -> torch.Tensor:
        if mode != "prefill":
            text = "offload: stream reads all weights for a pass, and a decode would be one for every token"
            raise Refusal(text, field="mode", remedy="ask for prefill, or leave `offload` out")
        return ids

    def _passes(self, ids: torch.Tensor, mode: Mode) -> Iterator[np.ndarray]:
        """Logits [n, V] of pass after pass; those of a pass over everything in blocks, so that float32 is not there twice."""
        pieces = self._pieces(len(ids)) if mode == "prefill" else [1] * len(ids)
        if mode == "prefill" and (self.batch > 1 or len(pieces) == 1):
            whole = self._batched(ids) if self.batch > 1 else self._model(input_ids=ids[None], use_cache=False).logits
            yield from (self._rows(block) for block in whole.split(BLOCK, dim=1))
            return
        cache = None
        for part in ids.split(pieces):
            rows, cache = self._step(part, cache)
            yield rows

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """Continue greedily through the cache; among equal logits the lowest id is taken. Streamed, a pass for every token."""
        if self._streamed is not None:
            self._checked(token_ids, more=max_new_tokens)
            return super().generate(token_ids, max_new_tokens, stop)
        ids = self._checked(token_ids, more=max_new_tokens)
        chosen: list[int] = []
        rows, cache = [], None
        with self._computing():
            parts = list(ids.split(self._pieces(len(ids))))
            while len(chosen) < max_new_tokens and not (chosen and chosen[-1] in stop):
                for part in parts:
                    step, cache = self._step(part, cache)
                rows.append(step[-1])
                chosen.append(self._greedy(rows[-1], [*token_ids, *chosen]))
                parts = [torch.tensor(chosen[-1:], device=self.device)]
        logits = np.stack(rows) if rows else np.empty((0, self.reference.vocabulary), np.float32)
        return Generated(chosen, logits, "stop" if chosen and chosen[-1] in stop else "length", self._kernels.report)

    def sample(
        self, token_ids: Sequence[int], count: int, max_new_tokens: int, stop: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """Draw all continuations in one batch, from this model's logits, with the sampler that transformers describes."""
        ids = self._checked(token_ids, more=max_new_tokens)
        rng, drawn, cache = np.random.default_rng(sampling.seed), [[] for _ in range(count)], None  # type: ignore[var-annotated]
        step = ids[None].expand(count, -1)
        with self._computing():
            for _ in range(max_new_tokens):
                out, cache = through_cache(self._model, step, cache)
                rows = self._rows(out.logits[None, :, -1])
                tokens = [self._choose(row, [*token_ids, *tail], sampling, rng) for row, tail in zip(rows, drawn, strict=True)]
                for tail, token in zip(drawn, tokens, strict=True):
                    if not (tail and tail[-1] in stop):
                        tail.append(token)
                if all(tail[-1] in stop for tail in drawn):
                    break
                step = torch.tensor(tokens, device=self.device)[:, None]
        return drawn

    def taps(
        self, token_ids: Sequence[int], mode: Mode, names: Sequence[str], given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Taps of one pass without cache, or of all passes through it; given ones flow on in place of the model's own."""
        if self.batch > 1:
            raise Refusal("taps are of one sequence", field="batch", remedy="leave `batch` out, or compare logits alone")
        ids, taps = self._checked(token_ids), Taps(names, given)
        pieces = self._pieces(len(ids)) if mode == "prefill" else [1] * len(ids)
        taps.whole = mode == "prefill" and len(pieces) == 1
        with self._computing():
            pass_through(self._model, self._watch, taps, ids[None], pieces)
        return taps.kept()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` with the special tokens that the tokenizer adds."""
        ids = self.reference.tokenize(text)
        return ids if self._reader is None else self._reader.tokens(ids, self.reference.tokenizer)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens kept, spaces as they are."""
        return self.reference.detokenize(token_ids)

    def _check_options(self) -> None:
        if self.offload == "stream":
            if self.float32_layers:
                raise Refusal("is not for offload: stream", field="float32_layers", remedy="leave one of the two out")
            streaming.check_options({"mutation": self.mutation, "chunk": self.chunk, "batch": self.batch - 1})
        if self.chunk is not None and self.chunk < 1:
            raise Refusal(f"chunk is {self.chunk}", field="chunk", remedy="give a positive number of positions")
        if self.threads is not None:
            if self.threads < 1:
                raise Refusal(f"threads is {self.threads}", field="threads", remedy="give a positive number")
            torch.set_num_threads(self.threads)

    def _plant(self) -> None:
        if self.mutation is None:
            return
        try:
            options, known = self.mutation_options or {}, catalog.find("mutations", self.mutation).option_names
            for option in options:
                if option not in known:
                    text = f"{self.mutation} has no option {option!r}{did_you_mean(option, known)}"
                    raise Refusal(text, field="mutation_options", remedy="see `logitproof list mutations`")
            mutation = TypeAdapter(catalog.load("mutations", self.mutation)).validate_python(options)
        except ContractError as error:
            raise Refusal(error.text, field="mutation", remedy=error.remedy) from error
        except ValidationError as error:
            raise Refusal(in_words(error), field="mutation_options") from error
        if not mutation.applies(self._model.config):
            text = f"{self.mutation} cannot happen in a {self._model.config.model_type} model of this config"
            raise Refusal(text, field="mutation", remedy="leave this mutation out for this model")
        self._sampler = mutation if mutation.needs == "sampling" else None
        self._reader = mutation if mutation.needs == "tokenizer" else None
        self._planted = ExitStack()
        self._planted.enter_context(mutation.applied_to(self._model))

    def _loaded(self) -> Loaded:
        config, generation = self._model.config, self.reference.generation_config
        stops = generation.eos_token_id
        return Loaded(
            vocab_size=self.reference.vocabulary,
            context_length=self.reference.context_length,
            bos_token_id=generation.bos_token_id,
            eos_token_ids=tuple(stops) if isinstance(stops, list) else () if stops is None else (stops,),
            details={
                "architecture": type(self._model).__name__,
                "model_type": config.model_type,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                "attention": config._attn_implementation,
                "parameters": self._model.num_parameters(),
                "rope": self._rope(),
                "threads": torch.get_num_threads(),
                "device": self.device,
                "mutation": self.mutation,
                "sampler_noise": "pcg64",
                **self.reference.details,
            },
        )

    def _rope(self) -> list[dict[str, Any]]:
        """What the model really rotates by: the inverse frequencies in memory, not the config's wish."""
        return [
            {
                "module": name,
                "parameters": dict(getattr(module.config, "rope_parameters", None) or {}),
                "attention_scaling": float(module.attention_scaling),
                "inv_freq_dtype": str(module.inv_freq.dtype).removeprefix("torch."),
                "inv_freq_sha256": hashlib.sha256(module.inv_freq.cpu().numpy().tobytes()).hexdigest(),
                "inv_freq": module.inv_freq.tolist(),
            }
            for name, module in self._model.named_modules()
            if hasattr(module, "inv_freq")
        ]

    def _checked(self, token_ids: Sequence[int], more: int = 0) -> torch.Tensor:
        """`token_ids` as a tensor [T]; refuses what the model cannot be asked."""
        limit, vocabulary = self.reference.context_length, self._model.get_input_embeddings().num_embeddings
        if not len(token_ids):
            raise Refusal("there are no token ids", field="token_ids", remedy="give at least one token")
        wrong = [token for token in token_ids if not 0 <= token < vocabulary]
        if wrong:
            text = f"token id {wrong[0]} is outside the vocabulary of {vocabulary}"
            raise Refusal(text, field="token_ids", remedy="tokenize with this model's own tokenizer")
        length = len(token_ids) + more
        if limit is not None and length > limit:
            text = f"{length} positions are more than the context length of {limit}"
            raise Refusal(text, field="token_ids", remedy="shorten the prompt or ask for fewer new tokens")
        return torch.tensor(list(token_ids), dtype=torch.long, device=self.device)

    def _pieces(self, length: int) -> list[int]:
        size = self.chunk or length
        return [min(size, length - start) for start in range(0, length, size)]

    @contextmanager
    def _computing(self) -> Iterator[None]:
        if self._streamed is not None:
            raise Refusal("offload: stream scores prompts, and does nothing else", remedy="leave `offload` out")
        with torch.inference_mode(), self._kernels.watched(), wide.float64() if self.dtype == "float64" else nullcontext():
            yield

    def _batched(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [1, T, V] of `ids` [T] as the first of a batch whose other sequences are longer."""
        others = [torch.cat([ids.flip(0), ids.new_full((3 * more,), int(ids[0]))]) for more in range(1, self.batch)]
        length = max(len(sequence) for sequence in others)
        tokens = ids.new_zeros(self.batch, length)
        mask = torch.zeros_like(tokens)
        for row, sequence in enumerate([ids, *others]):
            place = slice(length - len(sequence), None) if self.padding == "left" else slice(len(sequence))
            tokens[row, place], mask[row, place] = sequence, 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        logits = self._model(tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits
        return logits[:1, -len(ids) :] if self.padding == "left" else logits[:1, : len(ids)]

    def _step(self, ids: torch.Tensor, cache: Any) -> tuple[np.ndarray, Any]:
        """Logits [n, V] of the next `ids` [n], and the cache after them. The model counts positions itself."""
        out, after = through_cache(self._model, ids[None], cache)
        return self._rows(out.logits), after

    def _choose(self, row: np.ndarray, token_ids: Sequence[int], sampling: Sampling, rng: np.random.Generator) -> int:
        drawn_from = probabilities if self._sampler is None else self._sampler.drawn_from
        return draw(drawn_from(row, token_ids, sampling), rng)

    def _greedy(self, row: np.ndarray, token_ids: Sequence[int]) -> int:
        return int(
            np.argmax(row if self._sampler is None else self._sampler.drawn_from(row, token_ids, Sampling(temperature=0.0)))
        )

    def _rows(self, logits: torch.Tensor) -> np.ndarray:
        """Logits [1, T, V] of a pass as a float32 array [T, V]; float64 stays."""
        kind = torch.float64 if self.dtype == "float64" else torch.float32
        return np.asarray(logits[0].to(kind).cpu().numpy())
