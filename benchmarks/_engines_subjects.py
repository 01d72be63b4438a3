"""What the benchmark of engines runs: every engine of the catalogue that can be started here, and how."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
TOOLS = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")
SERVER_CONTEXT = 512


@dataclass(frozen=True)
class Subject:
    """One row of the table: an engine with options; `weights` is `original` (the HF folder) or `F32` (the GGUF file)."""

    label: str
    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = "original"
    timeout: float = 900.0

    @contextlib.contextmanager
    def uses(self, folder: Path) -> Iterator[Mapping[str, dict[str, Any]]]:
        """The options for each family, while whatever they need is running; raises FileNotFoundError without it."""
        yield dict.fromkeys(FAMILIES, self.options)


class Compiled(Subject):
    """The engine in C, compiled here."""

    @contextlib.contextmanager
    def uses(self, folder: Path) -> Iterator[Mapping[str, dict[str, Any]]]:
        if not (shutil.which("cc") and shutil.which("make")):
            raise FileNotFoundError("it needs cc and make")
        source = ROOT / "clients/c"
        subprocess.run(["make", "-s", "-C", source, f"OUT={folder}"], check=True, capture_output=True)
        yield {family: {"argv": [str(folder / "engine")]} for family in FAMILIES}


class Served(Subject):
    """llama-server, one for each family."""

    @contextlib.contextmanager
    def uses(self, folder: Path) -> Iterator[Mapping[str, dict[str, Any]]]:
        places = (TOOLS / "bin/llama-server", TOOLS / "llama-server")
        binary = next((path for path in places if path.is_file()), None)
        if binary is None:
            raise FileNotFoundError("llama-server is not built: `make llama-tools`")
        with contextlib.ExitStack() as stack:
            urls = {family: stack.enter_context(_serving(binary, ZOO / f"gguf/{family}-F32.gguf")) for family in FAMILIES}
            yield {family: {"url": url, "retries": 9} for family, url in urls.items()}


@contextlib.contextmanager
def _serving(binary: Path, model: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kv = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    size = ["-c", str(SERVER_CONTEXT), "-np", "1", "-t", "1"]
    command = [binary, "-m", model, "--host", "127.0.0.1", "--port", port, *size, *kv]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


SUBJECTS = (
    Subject("transformers, sdpa", "transformers", {"dtype": "float32", "attention": "sdpa", "threads": 1}),
    Subject("plain", "plain"),
    Subject("llamacpp", "llamacpp", weights="F32"),
    Compiled("the engine in C", "command", weights="F32"),
    Served("llama_server", "llama_server", weights="F32"),
    Subject("onnxruntime", "onnxruntime"),
    Subject("onnxruntime_genai", "onnxruntime_genai"),
    Subject("openvino", "openvino"),
    Subject("openvino, as it comes", "openvino", {"precision": "default", "kv_precision": "default"}),
    Subject("mlx", "mlx"),
    Subject("mlx, older_config", "mlx", {"older_config": True}),
    Subject("ctranslate2", "ctranslate2"),
    Subject("tinygrad", "tinygrad", weights="F32"),
    Subject("vllm", "vllm"),
    Subject("mistralrs", "mistralrs"),
    Subject("mistralrs, older_config", "mistralrs", {"older_config": True}),
)
FINDINGS = {
    ("mlx", "llama3"): "mlx-lm does not read `rope_parameters` of Llama, Phi 3 and SmolLM 3",
    ("mlx, older_config", "qwen3.5"): "mlx-lm rounds the norms of Qwen3.5 to bfloat16",
    ("onnxruntime", "qwen3.5"): "Qwen3.5 as transformers exports it to ONNX does not decode",
    ("openvino, as it comes", "*"): "OpenVINO computes in bfloat16 unless it is told otherwise",
    ("vllm", "qwen3.5"): "vLLM for the CPU does not load the text model of Qwen3.5 without torchvision",
    ("ctranslate2", "llama3"): "CTranslate2 and mistral.rs do not read `head_dim` of Llama",
    ("tinygrad", "llama3"): "tinygrad does not read the rotation's factors of Llama 3",
    ("tinygrad", "qwen3.5"): "tinygrad reads one of two keys that say which layers of Qwen3.5 are recurrent",
    ("mistralrs, older_config", "llama3"): "CTranslate2 and mistral.rs do not read `head_dim` of Llama",
    ("mistralrs, older_config", "*"): "mistral.rs in float32 is as coarse as float16",
}
"""Titles of docs/findings.md for what no known bug explains, by label and family; `*` is every other family."""
