"""The engine `mlx`: Apple's MLX with the models of mlx-lm, on the CPU or on Apple silicon."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import mlx.core as mx
import numpy as np
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from mlx_lm.utils import load_adapters, load_model, load_tokenizer

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines._mlx_config import names_for_mlx, settings_read
from logitproof.engines._mlx_taps import TAPS, tapped
from logitproof.errors import Refusal
from logitproof.files.untrusted import read_object
from logitproof.protocol.sampler import Sampling
from logitproof.protocol.taps import wanted

PACKAGES = ("mlx", "mlx-lm", "transformers", "tokenizers", "numpy")


@dataclass
class Mlx(Engine):
    """MLX with mlx-lm: an HF folder as it is, or one that `mlx_lm.convert` wrote.

    mlx-lm reads the names that configs had before transformers 5 and takes its own defaults for what it does not find:
    `details.not_read` lists the settings of the config that it has no place for. `older_config` gives it `rope_parameters`
    under the old names, and a text-only Qwen3.5 as `qwen3_5`. dtype is that of weights and activations, and `stored` leaves
    the file's; prefill_step_size the positions of a prefill pass; adapter a folder in mlx-lm's own format
    (`adapters.safetensors`).
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$dtype", "delta": "steps"}

    dtype: Literal["float32", "bfloat16", "float16", "stored"] = "float32"
    device: Literal["cpu", "gpu"] = "cpu"
    prefill_step_size: int = 2048
    older_config: bool = False
    adapter: str | None = None
    _model: Any = field(default=None, init=False, repr=False)
    _tokenizer: Any = field(default=None, init=False, repr=False)
    _folder: Path | None = field(default=None, init=False, repr=False)
    _vocab_size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.prefill_step_size < 1:
            raise Refusal(f"{self.prefill_step_size} is less than 1", field="prefill_step_size")

    def hello(self) -> Hello:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        device = mx.device_info()
        isa = {name: str(device[name]) for name in ("architecture", "device_name") if name in device}
        return Hello(versions=versions, sample=True, taps=TAPS, isa=isa | {"device": self.device})

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Load a folder with mlx-lm's own loader, strictly."""
        if not (model / "config.json").is_file():
            raise Refusal(f"{model} is no model folder", field="model", remedy="mlx-lm reads HF folders, no GGUF files")
        mx.set_default_device(getattr(mx, self.device))
        self._model = self._tokenizer = None
        given = read_object(model / "config.json")
        renamed = names_for_mlx(given) if self.older_config else {}
        try:
            loaded, settings = load_model(model, model_config=renamed, trust_remote_code=False)
            if self.adapter is not None:
                loaded = load_adapters(loaded, self.adapter)
        except (ValueError, TypeError, KeyError, OSError, AttributeError) as error:
            text = f"mlx-lm does not load {model.name}: {type(error).__name__}: {error}"
            raise Refusal(text, field="model", remedy="see `older_config` for configs of transformers 5") from error
        if self.dtype != "stored":
            loaded.set_dtype(getattr(mx, self.dtype))
        self._model, self._folder = loaded, model
        text_settings = settings.get("text_config", settings)
        self._vocab_size = int(text_settings["vocab_size"])
        stops = settings.get("eos_token_id", text_settings.get("eos_token_id"))
        return Loaded(
            vocab_size=self._vocab_size,
            context_length=text_settings.get("max_position_embeddings"),
            bos_token_id=text_settings.get("bos_token_id"),
            eos_token_ids=tuple(stops) if isinstance(stops, list) else () if stops is None else (int(stops),),
            details={
                "dtype": self.dtype if self.dtype != "stored" else str(text_settings.get("dtype", "as stored")),
                "class": type(loaded).__module__,
                "renamed": renamed,
                "not_read": sorted(set(given.get("text_config", given)) - settings_read(loaded) - set(renamed)),
                "adapter": self.adapter,
            },
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Logits [T, V] through the cache of mlx-lm: in pieces of `prefill_step_size`, or token by token."""
        return Scored(self._pass(self._checked(token_ids), 1 if mode == "decode" else self.prefill_step_size))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """Continue by mlx-lm's own loop, which gives log-probabilities."""
        prompt, chosen, rows = mx.array(self._checked(token_ids)), [], []
        steps = generate_step(prompt, self._model, max_tokens=max_new_tokens, prefill_step_size=self.prefill_step_size)
        for token, log_probabilities in steps if max_new_tokens else ():
            chosen.append(int(token))
            rows.append(np.array(log_probabilities.astype(mx.float32)))
            if chosen[-1] in stop:
                break
        logits = np.stack(rows) if rows else np.empty((0, self._vocab_size), np.float32)
        return Generated(chosen, logits, "stop" if chosen and chosen[-1] in stop else "length")

    def sample(
        self, token_ids: Sequence[int], count: int, max_new_tokens: int, stop: Sequence[int], sampling: Sampling
    ) -> list[list[int]]:
        """Draw with mlx-lm's own samplers, one continuation after another from one seed; top-p, min-p, top-k, temperature."""
        ids, drawn = self._checked(token_ids), []
        mx.random.seed(sampling.seed)
        sampler = make_sampler(sampling.temperature, sampling.top_p, sampling.min_p, top_k=sampling.top_k)
        penalty = sampling.repetition_penalty if sampling.repetition_penalty != 1.0 else None
        processors = make_logits_processors(repetition_penalty=penalty, repetition_context_size=len(ids) + max_new_tokens)
        for _ in range(count):
            new: list[int] = []
            own = {"max_tokens": max_new_tokens, "sampler": sampler, "logits_processors": processors}
            for token, _unused in generate_step(mx.array(ids), self._model, **own) if max_new_tokens else ():
                new.append(int(token))
                if new[-1] in stop:
                    break
            drawn.append(new)
        return drawn

    def taps(
        self, token_ids: Sequence[int], mode: Mode, names: Sequence[str], given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Inputs and outputs of the modules of mlx-lm's model, by their canonical names."""
        if given:
            raise Refusal("mlx-lm cannot be given the tensors of another engine", field="given")
        ids = self._checked(token_ids)
        with tapped(self._model, names) as recorded:
            logits = self._pass(ids, 1 if mode == "decode" else len(ids))
        taps = {name: np.concatenate(pieces) for name, pieces in recorded.items()}
        return taps | ({"logits": logits} if wanted("logits", names) else {})

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._loaded_tokenizer().encode(text, add_special_tokens=True)]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """The text as mlx-lm streams it."""
        detokenizer = self._loaded_tokenizer().detokenizer
        detokenizer.reset()
        for token in token_ids:
            detokenizer.add_token(token)
        detokenizer.finalize()
        return str(detokenizer.text)

    def _pass(self, ids: list[int], size: int) -> np.ndarray:
        cache = make_prompt_cache(self._model)
        rows = []
        for start, end in itertools.pairwise([*range(0, len(ids), size), len(ids)]):
            rows.append(self._model(mx.array([ids[start:end]]), cache=cache)[0].astype(mx.float32))
            # else a long decode is one graph, and the memory of all its steps is held
            mx.eval(rows[-1])
        return np.concatenate([np.array(row) for row in rows])

    def _checked(self, token_ids: Sequence[int]) -> list[int]:
        if self._model is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        # MLX reads outside the embedding without a word
        if wrong := [token for token in token_ids if not 0 <= token < self._vocab_size]:
            raise Refusal(f"token id {wrong[0]} is outside the vocabulary of {self._vocab_size}", field="token_ids")
        return [int(token) for token in token_ids]

    def _loaded_tokenizer(self) -> Any:
        if self._folder is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        if self._tokenizer is None:
            try:
                self._tokenizer = load_tokenizer(self._folder, {"trust_remote_code": False})
            except (OSError, ValueError) as error:
                raise Refusal(f"{self._folder} has no tokenizer: {error}", field="model") from error
        return self._tokenizer
