"""The engine `onnxruntime`: graphs that transformers' own ONNX exporter wrote, in ONNX Runtime."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnxruntime as ort

from logitproof.engines import Hello, Loaded
from logitproof.engines._cached import Cached
from logitproof.engines._exported import exported, run_converter
from logitproof.files.untrusted import read_object

PACKAGES = ("onnxruntime", "onnx", "onnxscript", "torch", "transformers", "numpy")
LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


@dataclass
class OnnxRuntime(Cached):
    """ONNX Runtime on the CPU: an HF folder, exported by `transformers.exporters` (torch.export) as its documentation says.

    Two graphs, one for the prompt and one for a token with the cache before it, are made when the weights are first seen and
    kept. `optimization` is ONNX Runtime's level of graph rewriting; `attention` the implementation that is traced.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "float32"}

    threads: int = 1
    optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    attention: Literal["sdpa", "eager"] = "sdpa"
    _sessions: dict[str, ort.InferenceSession] = field(default_factory=dict, init=False, repr=False)
    _cache: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _fed: int = field(default=0, init=False)

    def hello(self) -> Hello:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        return Hello(versions={**versions, "build": ort.get_build_info().split(", options")[0]}, tokenize=False)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Export the model, or find its export, and open a session for each graph."""
        self._sessions, self._vocab_size = {}, 0
        made_by = {name: importlib.metadata.version(name) for name in PACKAGES if name not in ("onnxruntime", "numpy")}
        arguments = ["--attention", self.attention]
        folder = exported(
            model,
            {"engine": "onnxruntime", "arguments": arguments, **made_by},
            lambda part: run_converter("logitproof.engines._export_onnx", [str(model), str(part), *arguments]),
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.graph_optimization_level = LEVELS[self.optimization]
        providers = ["CPUExecutionProvider"]
        self._sessions = {
            name: ort.InferenceSession(str(folder / f"{name}.onnx"), options, providers=providers)
            for name in ("prefill", "decode")
        }
        export = read_object(folder / "export.json")
        self._vocab_size, self._context_length = int(export["vocab_size"]), export["context_length"]
        details = {"dtype": "float32", "export": str(folder), "inputs": self._inputs("decode")}
        return Loaded(self._vocab_size, self._context_length, export["bos"], tuple(export["eos"]), details)

    def _begin(self, positions: int) -> None:
        self._cache, self._fed = {}, 0

    def _step(self, token_ids: Sequence[int]) -> np.ndarray:
        name = "decode" if self._fed else "prefill"
        count = len(token_ids)
        given = {
            "input_ids": np.array([token_ids], np.int64),
            "position_ids": np.arange(self._fed, self._fed + count, dtype=np.int64)[None],
            "attention_mask": np.ones((1, self._fed + count), np.int64),
            **{f"input.{key}": value for key, value in self._cache.items()},
        }
        session = self._sessions[name]
        outputs = session.run(None, {key: given[key] for key in self._inputs(name)})
        named = {output.name: value for output, value in zip(session.get_outputs(), outputs, strict=True)}
        self._fed += count
        self._cache = {key.removeprefix("output."): value for key, value in named.items() if key != "logits"}
        return np.asarray(named["logits"][0], np.float32)

    def _inputs(self, name: str) -> list[str]:
        return [tensor.name for tensor in self._sessions[name].get_inputs()]
