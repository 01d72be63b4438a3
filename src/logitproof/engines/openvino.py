"""The engine `openvino`: models that optimum-intel exported, in OpenVINO's runtime."""

from __future__ import annotations

import importlib.metadata
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import openvino as ov

from logitproof.engines import Hello, Loaded
from logitproof.engines._cached import Cached
from logitproof.engines._exported import exported, run_converter
from logitproof.files.untrusted import read_object

PACKAGES = ("openvino", "optimum-intel", "transformers", "torch", "numpy")
EXPORTER = "optimum.commands.optimum_cli"
KERNEL = re.compile(r"(?:jit|brgemm|brgconv|gemm|ref|acl|mlas)\w*")


@dataclass
class OpenVino(Cached):
    """OpenVINO on the CPU: an HF folder through `optimum-cli export openvino`, or a folder with openvino_model.xml.

    `precision` is the hint for inference and `kv_precision` that for the cache; `default` leaves both to OpenVINO, which takes
    bfloat16 on CPUs that have it, and a cache of 8 bits. What it says it took is in the details.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$precision", "cache": "$kv_precision"}

    precision: Literal["f32", "bf16", "f16", "default"] = "f32"
    kv_precision: Literal["f32", "bf16", "f16", "u8", "default"] = "f32"
    threads: int = 1
    _request: Any = field(default=None, init=False, repr=False)
    _compiled: Any = field(default=None, init=False, repr=False)
    _fed: int = field(default=0, init=False)

    def hello(self) -> Hello:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        isa = {"capabilities": ", ".join(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))}
        return Hello(versions={**versions, "build": ov.get_version()}, tokenize=False, isa=isa)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Export the model, or find its export, and compile it for the CPU."""
        self._request, self._vocab_size = None, 0
        folder = model if (model / "openvino_model.xml").is_file() else self._exported(model)
        wishes = {"INFERENCE_PRECISION_HINT": self.precision, "KV_CACHE_PRECISION": self.kv_precision}
        settings = {name: value for name, value in wishes.items() if value != "default"}
        self._compiled = ov.Core().compile_model(
            str(folder / "openvino_model.xml"), "CPU", {**settings, "INFERENCE_NUM_THREADS": str(self.threads)}
        )
        self._request = self._compiled.create_infer_request()
        facts = read_object(folder / "config.json")
        facts = facts.get("text_config") or facts
        self._vocab_size, self._context_length = int(facts["vocab_size"]), facts.get("max_position_embeddings")
        eos = facts.get("eos_token_id")
        stops = tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),)
        return Loaded(self._vocab_size, self._context_length, facts.get("bos_token_id"), stops, self._details(folder))

    def _begin(self, positions: int) -> None:
        self._request.reset_state()
        self._fed = 0

    def _step(self, token_ids: Sequence[int]) -> np.ndarray:
        count = len(token_ids)
        given = {
            "input_ids": np.array([token_ids], np.int64),
            "attention_mask": np.ones((1, self._fed + count), np.int64),
            "position_ids": np.arange(self._fed, self._fed + count, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        names = {name for port in self._compiled.inputs for name in port.get_names()}
        outputs = self._request.infer({name: value for name, value in given.items() if name in names})
        self._fed += count
        return np.array(outputs["logits"][0], np.float32)

    def _exported(self, model: Path) -> Path:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        # Without the format, optimum compresses weights of large models to 8 bits by itself.
        arguments = ["--task", "text-generation-with-past", "--weight-format", "fp32"]

        def export(part: Path) -> None:
            run_converter(EXPORTER, ["export", "openvino", "--model", str(model), *arguments, str(part)])

        return exported(model, {"engine": "openvino", "arguments": arguments, **versions}, export)

    def _details(self, folder: Path) -> dict[str, Any]:
        """What was compiled: precision as OpenVINO says it, and the kernels of its operations, counted."""
        nodes = self._compiled.get_runtime_model().get_ordered_ops()
        kernels = Counter(str(node.get_rt_info()["primitiveType"].astype(str)) for node in nodes)
        return {
            "dtype": self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
            "kv_cache": self._compiled.get_property("KV_CACHE_PRECISION").to_string(),
            "kernels": {name: count for name, count in sorted(kernels.items()) if KERNEL.match(name)},
            "export": str(folder),
        }
