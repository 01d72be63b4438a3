"""What the benchmark of engines runs: every engine of the catalogue that can be started here, and how."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
TOOLS = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")
VARIANTS = Path(os.environ.get("LOGITPROOF_LLAMA_VARIANTS") or ROOT / ".cache/isa/x86_64")
"""A folder of llama.cpp's libraries with one `libggml-cpu-VARIANT.so` for each kind of processor (docs/engines.md)."""
SERVER_CONTEXT = 1024


@dataclass(frozen=True)
class Subject:
    """One row of the table: an engine with options; `weights` is `original` (the HF folder) or `F32` (the GGUF file).

    `axes` are what it is run over: the five families as they are, the probes of new families, GGUF quantizations.
    `arithmetic` is the engine that it computes like from a quantized file, where its own class does not say how.
    `may_be_exact` is why a candidate may be equal to the reference.
    """

    label: str
    engine: str
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = "original"
    timeout: float = 900.0
    axes: tuple[str, ...] = ("zoo", "probes")
    arithmetic: str = ""
    may_be_exact: str = ""

    @property
    def slug(self) -> str:
        """The label as a name of a folder and of a candidate."""
        return self.label.replace(", ", "-").replace(" ", "-")

    @contextlib.contextmanager
    def serving(self, file: Path, scratch: Path) -> Iterator[dict[str, Any]]:
        """The options for the weights `file`, while whatever they need is running; raises FileNotFoundError without it."""
        yield self.options

    def needs(self) -> None:
        """FileNotFoundError where something that it needs is not here."""

    @property
    def is_one_for_all(self) -> bool:
        """Whether the same options serve every model."""
        return True


class Compiled(Subject):
    """The engine in C, compiled here."""

    def needs(self) -> None:
        if not (shutil.which("cc") and shutil.which("make")):
            raise FileNotFoundError("it needs cc and make")

    @contextlib.contextmanager
    def serving(self, file: Path, scratch: Path) -> Iterator[dict[str, Any]]:
        subprocess.run(["make", "-s", "-C", ROOT / "clients/c", f"OUT={scratch}"], check=True, capture_output=True)
        yield {"argv": [str(scratch / "engine")]}


class Variant(Subject):
    """llama.cpp's bindings with a build that has its kernels for several processors: the one that is named."""

    def needs(self) -> None:
        if not (VARIANTS / f"libggml-cpu-{self.options['variant']}.so").is_file():
            raise FileNotFoundError(f"no libggml-cpu-{self.options['variant']}.so: docs/engines.md says where it comes from")

    @contextlib.contextmanager
    def serving(self, file: Path, scratch: Path) -> Iterator[dict[str, Any]]:
        yield {"library": str(VARIANTS), **self.options}


class Served(Subject):
    """llama-server, one for each model; `flags` of the options are those of its command line."""

    @property
    def is_one_for_all(self) -> bool:
        return False

    def needs(self) -> None:
        self._binary()

    @contextlib.contextmanager
    def serving(self, file: Path, scratch: Path) -> Iterator[dict[str, Any]]:
        with _server(self._binary(), file, self.options.get("flags", [])) as url:
            yield {"url": url, "retries": 9}

    def _binary(self) -> Path:
        places = (TOOLS / "bin/llama-server", TOOLS / "llama-server")
        binary = next((path for path in places if path.is_file()), None)
        if binary is None:
            raise FileNotFoundError("llama-server is not built: `make llama-tools`")
        return binary


@contextlib.contextmanager
def _server(binary: Path, model: Path, flags: list[str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kv = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    size = ["-c", str(SERVER_CONTEXT), "-np", "1", "-t", "1"]
    command = [binary, "-m", model, "--host", "127.0.0.1", "--port", port, *size, *kv, *flags]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


ALL = ("zoo", "probes", "quantizations")

OF_GGUF = "transformers, its own GGUF loader"
SUBJECTS = (
    Subject("transformers, sdpa", "transformers", {"dtype": "float32", "attention": "sdpa", "threads": 1}),
    Subject(
        OF_GGUF,
        "transformers_gguf",
        {"threads": 1},
        weights="F32",
        axes=ALL,
        may_be_exact="the reference's own library on the same weights, if it reads them right",
    ),
    Subject("plain", "plain"),
    Subject("llamacpp", "llamacpp", weights="F32", axes=ALL),
    Subject("llamacpp, repack", "llamacpp", {"repack": True}, weights="F32", axes=("quantizations",)),
    Variant("llamacpp, icelake", "llamacpp", {"variant": "icelake"}, "F32", axes=("quantizations",)),
    Variant("llamacpp, icelake, repack", "llamacpp", {"variant": "icelake", "repack": True}, "F32", axes=("quantizations",)),
    Compiled("the engine in C", "command", weights="F32"),
    Served("llama_server", "llama_server", weights="F32", axes=ALL, arithmetic="llamacpp"),
    Subject("onnxruntime", "onnxruntime"),
    Subject("onnxruntime_genai", "onnxruntime_genai"),
    Subject("openvino", "openvino"),
    Subject("openvino, as it comes", "openvino", {"precision": "default", "kv_precision": "default"}),
    Subject("mlx", "mlx"),
    Subject("mlx, older_config", "mlx", {"older_config": True}, axes=ALL),
    Subject("ctranslate2", "ctranslate2"),
    Subject("tinygrad", "tinygrad", weights="F32", axes=ALL),
    Subject("vllm", "vllm"),
    Subject("mistralrs", "mistralrs"),
    Subject("mistralrs, older_config", "mistralrs", {"older_config": True}),
    Subject("mistralrs, GGUF", "mistralrs", weights="F32", axes=("probes", "quantizations"), arithmetic="llamacpp"),
)
OF_MLX = ("mlx", "mlx, older_config")
NO_ROPE_PARAMETERS = "mlx-lm does not read `rope_parameters` of Llama, Phi 3 and SmolLM 3"
NO_SCALING = "transformers' own GGUF loader loses the scaling of Llama 3's rotation"
DEFAULT_SIZES = "transformers' own GGUF loader takes Qwen3 to have the sizes of its default config"
BY_CHANCE = "transformers leaves layers of a Qwen3.5 GGUF file to chance where not every fourth attends"
NO_HEAD_DIM = "CTranslate2 and mistral.rs do not read `head_dim` of Llama"
WHICH_RECURRENT = "tinygrad reads one of two keys that say which layers of Qwen3.5 are recurrent"
INTERVAL = "mistral.rs does not load a Qwen3.5 of fewer layers than its interval"
OF_BLOCKS = "tinygrad's own compiler gets products with Q4_K and Q5_K wrong"
LISTS = "transformers does not load the GGUF file of a Gemma 4 whose layers differ in size"
FINDINGS: dict[tuple[str, str], str] = {
    (OF_GGUF, "llama3"): NO_SCALING,
    (OF_GGUF, "qwen3"): DEFAULT_SIZES,
    (OF_GGUF, "qwen3-moe"): DEFAULT_SIZES,
    (OF_GGUF, "qwen3.5"): BY_CHANCE,
    (OF_GGUF, "qwen3.5-moe"): BY_CHANCE,
    (OF_GGUF, "gemma4"): LISTS,
    (OF_GGUF, "gemma4-moe"): LISTS,
    **{("mlx", name): NO_ROPE_PARAMETERS for name in ("cohere2", "deepseek-v3", "olmo2", "seed-oss")},
    ("mlx, older_config", "ernie4.5-moe"): "mlx-lm does not load the correction of Ernie 4.5's router",
    **{(label, "mamba2"): "mlx-lm norms all groups of Mamba-2 together" for label in OF_MLX},
    **{(label, "falcon-h1"): "mlx-lm loses `key_multiplier` of Falcon-H1" for label in OF_MLX},
    **{(label, "gemma"): "mlx-lm computes the exact GELU in the first Gemma" for label in OF_MLX},
    ("mlx", "llama3"): NO_ROPE_PARAMETERS,
    ("mlx, older_config", "qwen3.5"): "mlx-lm rounds the norms of Qwen3.5 to bfloat16",
    ("onnxruntime", "qwen3.5"): "Qwen3.5 as transformers exports it to ONNX does not decode",
    ("openvino, as it comes", "*"): "OpenVINO computes in bfloat16 unless it is told otherwise",
    ("vllm", "qwen3.5"): "vLLM for the CPU does not load the text model of Qwen3.5 without torchvision",
    ("ctranslate2", "llama3"): NO_HEAD_DIM,
    ("tinygrad", "llama3"): "tinygrad does not read the rotation's factors of Llama 3",
    ("tinygrad", "qwen3.5"): WHICH_RECURRENT,
    **{("tinygrad", kind): OF_BLOCKS for kind in ("Q4_K_S", "Q5_K_S")},
    ("mistralrs, GGUF", "llama3"): NO_HEAD_DIM,
    ("mistralrs, GGUF", "qwen3.5"): INTERVAL,
    ("mistralrs, older_config", "llama3"): NO_HEAD_DIM,
    ("mistralrs, older_config", "*"): "mistral.rs in float32 is as coarse as float16",
}
"""Titles of docs/findings.md for what no known bug explains, by label and family, probe or format; `*` is every other one."""
OLDER_PROBES = frozenset(
    {
        *("gemma2", "gemma3", "glm4-moe", "gpt-oss", "granite", "llama-gelu", "llama3", "llama3-outliers", "mistral"),
        *("phi3", "qwen2-moe", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5", "smollm3"),
    }
)
"""Probes that were there before the families of docs/families.md."""
