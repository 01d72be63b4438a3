"""The engine `mistralrs`: mistral.rs in process, from an HF folder or a GGUF file."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mistralrs
import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines._older_config import older_names, with_settings
from logitproof.errors import Refusal
from logitproof.files.untrusted import read_object
from logitproof.gguf.vocabulary import vocabulary_size
from logitproof.rows.top import top_rows

RAW = "{{ messages[0]['content'] }}"
"""A chat template that adds nothing: only chat requests are answered with log-probabilities."""
DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "auto": "Auto"}
Entries = list[tuple[int, float]]


@dataclass
class MistralRs(Engine):
    """mistral.rs in process: log-probabilities of new tokens, one request for every position that is scored.

    It takes text alone, so a prefix whose text is not cut into the same tokens again is not measured. `logprobs` is how
    many are asked for a position, and -1 the whole vocabulary. It asks for configs as they were before transformers 5, and
    says so; older_config gives it one. adapter is the folder of a PEFT LoRA adapter.
    """

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    logprobs: int = -1
    older_config: bool = False
    adapter: str | None = None
    _runner: Any = field(default=None, init=False, repr=False)
    _vocab_size: int = field(default=0, init=False)
    _scratch: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.logprobs == 0 or self.logprobs < -1:
            raise Refusal(f"{self.logprobs} log-probabilities prove nothing", field="logprobs", remedy="1 or more, or -1: all")

    def hello(self) -> Hello:
        versions = {name: importlib.metadata.version(name) for name in ("mistralrs", "numpy")}
        return Hello(versions=versions, modes=("prefill",))

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        self._runner = None
        self._scratch = tempfile.TemporaryDirectory(prefix="logitproof-mistralrs-")
        folder = model if model.is_dir() else config
        settings = read_object(folder / "config.json") if folder else {}
        renamed = _asked_for(settings) if self.older_config and model.is_dir() else {}
        template = Path(self._scratch.name, "raw.jinja")
        template.write_text(RAW, "utf-8")
        try:
            self._runner = mistralrs.Runner(
                which=self._which(with_settings(model, renamed, Path(self._scratch.name, "model")) if renamed else model),
                max_seqs=1,
                # a prefix that is kept would make one pass of another
                prefix_cache_n=0,
                no_paged_attn=True,
                token_source="none",  # noqa: S106
                jinja_explicit=str(template),
            )
        except ValueError as error:
            text = f"mistral.rs does not load {model.name}: {str(error).partition(chr(10))[0]}"
            raise Refusal(text, field="model", remedy="see `older_config` for configs of transformers 5") from error
        self._vocab_size = vocabulary_size(folder or model)
        stops = settings.get("eos_token_id")
        return Loaded(
            vocab_size=self._vocab_size,
            context_length=settings.get("max_position_embeddings"),
            bos_token_id=settings.get("bos_token_id"),
            eos_token_ids=tuple(stops) if isinstance(stops, list) else () if stops is None else (int(stops),),
            details={"dtype": self.dtype, "renamed": renamed, "adapter": self.adapter},
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Row t is what a request with the tokens up to t says of the next one."""
        if mode != "prefill":
            raise Refusal("mistral.rs has no decode of given tokens", field="mode", remedy="only: {mode: prefill}")
        ids = self._checked(token_ids)
        rows = [self._asked(ids[: n + 1], 1)[0] if self._says(ids[: n + 1]) is not None else [] for n in range(len(ids))]
        if not any(rows):
            raise Refusal("no prefix of these tokens is what mistral.rs cuts their text into", field="token_ids")
        return Scored(self._rows(rows))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """One request at temperature 0, through the cache."""
        ids = self._checked(token_ids)
        if self._says(ids) is None:
            raise Refusal("the text of these tokens is cut into other tokens", field="token_ids")
        rows = self._asked(ids, max_new_tokens) if max_new_tokens else []
        chosen = [row[0][0] for row in rows]
        end = next((n + 1 for n, token in enumerate(chosen) if token in stop), len(chosen))
        return Generated(chosen[:end], self._rows(rows[:end]), "stop" if end and chosen[end - 1] in stop else "length")

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._loaded().tokenize_text(text, True, None)]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return str(self._loaded().detokenize_text(list(token_ids), False))

    def _which(self, model: Path) -> Any:
        dtype = getattr(mistralrs.ModelDType, DTYPES[self.dtype])
        adapters = [mistralrs.LoraAdapter("adapter", self.adapter)] if self.adapter else None
        if model.is_file():
            own = {"adapters": adapters} if adapters else {}
            return mistralrs.Which.GGUF(str(model.parent), model.name, dtype=dtype, **own)
        if adapters:
            return mistralrs.Which.Lora(str(model), adapters=adapters, dtype=dtype)
        return mistralrs.Which.Plain(model_id=str(model), dtype=dtype)

    def _says(self, ids: list[int]) -> str | None:
        """The text of these tokens, None where it is cut into others."""
        text = self._loaded().detokenize_text(ids, False)
        return text if self._loaded().tokenize_text(text, False, None) == ids else None

    def _asked(self, ids: list[int], new: int) -> list[Entries]:
        """The best entries of each of `new` positions, the token that was taken first."""
        request = mistralrs.ChatCompletionRequest(
            messages=self._says(ids), model="default", max_tokens=new, temperature=0.0, ignore_eos=True,
            logprobs=True, top_logprobs=self._vocab_size if self.logprobs == -1 else self.logprobs,
            **({"adapter": "adapter"} if self.adapter else {}),
        )  # fmt: skip
        answer = self._loaded().send_chat_completion_request(request)
        if answer.usage.prompt_tokens != len(ids):
            text = f"mistral.rs fed {answer.usage.prompt_tokens} tokens for the text of {len(ids)}: it adds some of its own"
            raise Refusal(text, field="token_ids", remedy="begin with the token that its tokenizer adds")
        content = answer.choices[0].logprobs.content
        if len(content) != new:
            raise RuntimeError(f"mistral.rs made {len(content)} tokens, {new} were asked for")
        return [
            sorted(((entry.token, entry.logprob) for entry in row.top_logprobs), key=lambda pair: -pair[1]) for row in content
        ]

    def _rows(self, rows: list[Entries]) -> np.ndarray:
        """Whole rows [T, V] where every entry is known, else the best entries."""
        if rows and all(len(row) == self._vocab_size for row in rows):
            whole = np.empty((len(rows), self._vocab_size), np.float32)
            for at, row in enumerate(rows):
                whole[at, [token for token, _ in row]] = [value for _, value in row]
            return whole
        width = max((len(row) for row in rows), default=1)
        ids, values = np.full((len(rows), width), -1, np.int32), np.full((len(rows), width), np.nan, np.float32)
        for at, row in enumerate(rows):
            ids[at, : len(row)], values[at, : len(row)] = [token for token, _ in row], [value for _, value in row]
        return top_rows(ids, values)

    def _checked(self, token_ids: Sequence[int]) -> list[int]:
        self._loaded()
        if wrong := [token for token in token_ids if not 0 <= token < self._vocab_size]:
            raise Refusal(f"token id {wrong[0]} is outside the vocabulary of {self._vocab_size}", field="token_ids")
        return [int(token) for token in token_ids]

    def _loaded(self) -> Any:
        if self._runner is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        return self._runner


def _asked_for(config: dict[str, Any]) -> dict[str, Any]:
    """The older names, and the setting that mistral.rs wants of every Qwen3-MoE, where it can change nothing."""
    settings = older_names(config)
    if config.get("model_type") == "qwen3_moe" and "max_window_layers" not in config and not config.get("use_sliding_window"):
        settings["max_window_layers"] = config["num_hidden_layers"]
    return settings
