"""The engine `onnxruntime_genai`: models of its own builder, in ONNX Runtime's generation loop."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnxruntime_genai as og

from logitproof.engines import Hello, Loaded
from logitproof.engines._cached import Cached
from logitproof.engines._exported import exported, run_converter
from logitproof.files.untrusted import read_object

PACKAGES = ("onnxruntime-genai", "onnxruntime", "onnx-ir", "torch", "transformers", "numpy")
BUILDER = "onnxruntime_genai.models.builder"


@dataclass
class OnnxRuntimeGenai(Cached):
    """onnxruntime-genai on the CPU: an HF folder through its model builder, or a folder that the builder wrote.

    `precision` is that of the builder. What its generator keeps in the cache is what decode reads; prefill is one
    `append_tokens`. Its tokenizer adds no special token by itself; `special_tokens` asks it to, as `add_special_tokens`.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$precision"}

    precision: Literal["fp32", "int4"] = "fp32"
    special_tokens: bool = True
    _model: Any = field(default=None, init=False, repr=False)
    _tokenizer: Any = field(default=None, init=False, repr=False)
    _generator: Any = field(default=None, init=False, repr=False)

    def hello(self) -> Hello:
        return Hello(versions={name: importlib.metadata.version(name) for name in PACKAGES})

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Build the model, or find the one that was built, and open it."""
        self._generator = self._tokenizer = self._model = None
        self._vocab_size = 0
        folder = model if (model / "genai_config.json").is_file() else self._built(model)
        self._model = og.Model(str(folder))
        settings = read_object(folder / "genai_config.json")["model"]
        self._vocab_size, self._context_length = int(settings["vocab_size"]), int(settings["context_length"])
        self._tokenizer = og.Tokenizer(self._model)
        self._tokenizer.update_options(add_special_tokens=str(self.special_tokens).lower())
        eos = settings.get("eos_token_id")
        stops = tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),)
        details = {"dtype": self.precision, "type": settings["type"], "built": str(folder)}
        return Loaded(self._vocab_size, self._context_length, settings.get("bos_token_id"), stops, details)

    def tokenize(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(np.array(token_ids, np.int32)))

    def _begin(self, positions: int) -> None:
        parameters = og.GeneratorParams(self._model)
        # One more than is fed: the generator counts the token that would be chosen.
        parameters.set_search_options(max_length=positions + 1, do_sample=False)
        self._generator = og.Generator(self._model, parameters)

    def _step(self, token_ids: Sequence[int]) -> np.ndarray:
        self._generator.append_tokens(np.array(token_ids, np.int32))
        rows = np.array(self._generator.get_output("logits"), np.float32)[0]
        if rows.shape != (len(token_ids), self._vocab_size):
            raise RuntimeError(f"its logits of {len(token_ids)} tokens are of shape {rows.shape}")
        return rows

    def _built(self, model: Path) -> Path:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        arguments = ["-p", self.precision, "-e", "cpu"]
        local = ["--extra_options", "hf_remote=false"]

        def build(part: Path) -> None:
            run_converter(BUILDER, ["-i", str(model), "-o", str(part), *arguments, "-c", str(part / "cache"), *local])

        return exported(model, {"engine": "onnxruntime_genai", "arguments": arguments, **versions}, build)
