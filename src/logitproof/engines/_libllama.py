"""A libllama build: found by path, checked against the bindings, its log kept for error messages."""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitproof.engines._llama_build import build_facts
from logitproof.errors import Refusal
from logitproof.files.hashes import file_sha256
from logitproof.files.nearest import meant

KEPT_LINES = 1000
DEBUG, ERROR = 1, 4
"""ggml's own numbers of these log levels."""
CONTEXT_DEFAULTS = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "pooling_type": -1, "yarn_ext_factor": -1.0,
    "defrag_thold": -1.0, "type_k": 1, "type_v": 1, "embeddings": False, "offload_kqv": True, "op_offload": True,
}  # fmt: skip
MODEL_DEFAULTS = {"split_mode": 1, "main_gpu": 0, "vocab_only": False, "check_tensors": False, "use_extra_bufts": True}
"""What every recent libllama gives as its defaults. The structures have changed between versions, and one
read through the wrong layout shows other numbers, at its end if not at its start, before it does harm."""
ONE_VERSION = "bindings and library must be of one version: build the llama.cpp that is inside this llama-cpp-python"


class Log:
    """llama.cpp's own words, instead of on stderr; the lines of a failure become its message."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)

    def add(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace").rstrip()
        # Debug lines come by the thousand with a deep model and would push out those of its cache.
        if level != DEBUG and line.strip("."):
            self._lines.append((level, line))

    def clear(self) -> None:
        self._lines.clear()

    def errors(self) -> str:
        """The lines of level ERROR, or the last ones where there are none."""
        lines = [line for level, line in self._lines if level == ERROR] or [line for _, line in self._lines][-3:]
        return "; ".join(dict.fromkeys(lines)) or "it gave no reason"

    def matching(self, *prefixes: str) -> list[str]:
        return [line for _, line in self._lines if line.startswith(prefixes)]


class _Feature(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p))


class Library:
    """The bindings' module, loaded on one build. There is one a process."""

    def __init__(self, llama: Any) -> None:
        self.llama = llama
        # A symbol of this handle is looked up in the libggml that this libllama is linked to; the bindings'
        # own handle of libggml is always the bundled one.
        self._handle = llama.llama_cpp._lib
        self.path = Path(self._handle._name)
        self.log = Log()
        # Kept on self: ctypes does not keep a callback alive.
        self._callback = llama.llama_log_callback(self.log.add)
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def versions(self) -> dict[str, str]:
        """Version, commit, build flags and sha256 of every library file of llama.cpp that is in this process.

        Where nothing beside the library says how it was built, its own words of what it was compiled with are the flags.
        """
        hashes = {path.name: file_sha256(path) for path in self.files()}
        info = _text(self.llama.llama_print_system_info()).strip()
        return {
            "llama-cpp-python": self.llama.__version__,
            "llama.cpp": _text(self.llama.llama_version()),
            "ggml": f"{_text(self._call('ggml_version'))} ({_text(self._call('ggml_commit'))})",
            **({"build flags": f"{info} as the library says"} if info else {}),
            **build_facts(self.path, _text(self._call("ggml_commit"))),
            **{f"sha256 of {name}": value for name, value in hashes.items()},
        }

    def files(self) -> list[Path]:
        """What the kernel says is mapped: a run path may lead to a libggml far from this libllama."""
        files = {self.path.resolve()}
        maps = Path("/proc/self/maps")
        if maps.exists():
            rows = [line.split(maxsplit=5) for line in maps.read_text().splitlines()]
            mapped = {Path(row[5]) for row in rows if len(row) == 6}
        else:
            mapped = {path.resolve() for path in self.path.parent.glob("lib*.dylib")}
        return sorted(files | {path for path in mapped if path.name.startswith(("libllama", "libggml"))})

    def features(self) -> dict[str, str]:
        """The instruction sets of each loaded backend: what it was built for and found on this processor."""
        info = _text(self.llama.llama_print_system_info()).strip()
        backends = {_text(self._call("ggml_backend_reg_name", backend)): backend for backend in self._backends()}
        files = [path.name for path in self.files() if path.name.startswith("libggml-cpu")]
        return {
            "system_info": info,
            "backend": " ".join(files),
            **{f"features of {name}": " ".join(self._features(backend)) for name, backend in backends.items()},
        }

    def dispatched(self) -> dict[str, str]:
        """What the kernels are, once a model is loaded: the backend's file and features, the buffers of its weights."""
        buffers = re.findall(r"(\S+) model buffer size", "\n".join(self.log.matching("load_tensors:")))
        return {**self.features(), "weights": " ".join(dict.fromkeys(buffers))}

    def load_backend(self, backend: str | None) -> None:
        """Load the CPU variant that was asked for; exactly one CPU backend must be there afterwards."""
        linked = b"CPU" in [self._call("ggml_backend_reg_name", registry) for registry in self._backends()]
        if backend is None:
            if not linked:
                variants = ", ".join(sorted(path.name for path in self.path.parent.glob("libggml-cpu*"))) or "none here"
                raise Refusal(
                    "this build of llama.cpp has no CPU backend linked in",
                    field="backend",
                    remedy=f"name the libggml-cpu file to compute with ({self.path.parent} has {variants})",
                )
            return
        if not Path(backend).is_file():
            raise Refusal(f"no such file: {backend}{meant(Path(backend))}", field="backend")
        if linked:
            raise Refusal(
                "this build of llama.cpp has its CPU backend linked in and would compute with that one",
                field="backend",
                remedy="leave `backend` out, or give a `library` that was built with GGML_BACKEND_DL",
            )
        if not self._call("ggml_backend_load", str(Path(backend).resolve()).encode(), returns=ctypes.c_void_p):
            raise Refusal(
                f"llama.cpp cannot load the backend {backend} on this processor: {self.log.errors()}", field="backend"
            )
        names = [path.name.split(".")[0] for path in self.files()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Refusal(f"{backend} is of another build and brought its own {', '.join(twice)}", field="backend")

    def _backends(self) -> list[int]:
        count = self._call("ggml_backend_reg_count", returns=ctypes.c_size_t)
        reg = [self._call("ggml_backend_reg_get", ctypes.c_size_t(index), returns=ctypes.c_void_p) for index in range(count)]
        return [ctypes.c_void_p(address) for address in reg]  # type: ignore[misc]

    def _features(self, backend: Any) -> Iterator[str]:
        name = b"ggml_backend_get_features"
        address = self._call("ggml_backend_reg_get_proc_address", backend, name, returns=ctypes.c_void_p)
        if not address:
            return
        listed = ctypes.CFUNCTYPE(ctypes.POINTER(_Feature), ctypes.c_void_p)(address)(backend)
        for feature in listed:
            if feature.name is None:
                return
            yield _text(feature.name) if feature.value == b"1" else f"{_text(feature.name)}={_text(feature.value)}"

    def function(self, name: str, returns: Any, *takes: Any) -> Any:
        """A function of the libggml or libllama that is in this process."""
        symbol = self._handle[name]
        symbol.restype, symbol.argtypes = returns, takes
        return symbol

    def _call(self, name: str, *arguments: Any, returns: Any = ctypes.c_char_p) -> Any:
        function = self._handle[name]
        function.restype = returns
        return function(*arguments)


def open_library(library: str | None, backend: str | None) -> Library:
    """Load the build that `library` names (a folder, or the libllama file in it), or the bundled one."""
    folder = _folder(Path(library)) if library is not None else None
    if folder is not None:
        os.environ["LLAMA_CPP_LIB_PATH"] = str(folder)
    # Here and not at the top, because the bindings read the path above when they are imported.
    try:
        import llama_cpp
    except (OSError, RuntimeError, AttributeError) as error:
        if library is None:
            raise
        raise Refusal(f"the bindings cannot load this build: {error}", field="library", remedy=ONE_VERSION) from None
    loaded = Library(llama_cpp)
    if folder is not None and loaded.path.parent.resolve() != folder:
        raise Refusal(f"this process holds {loaded.path} already", field="library", remedy="use one process a library")
    _check_layout(llama_cpp, library)
    loaded.load_backend(backend)
    llama_cpp.llama_backend_init()
    return loaded


def said_of_context(lines: list[str]) -> dict[str, Any]:
    """What llama.cpp tells of a context in its log alone: flash attention, and [K, V] types of its caches."""
    log = "\n".join(lines)
    flash = re.search(r"flash_attn +=(.*)", log)
    kinds = re.findall(r"llama_kv_cache\w*: size = .* K \((\w+)\).* V \((\w+)\)", log)
    return {
        "flash_attention": flash[1].strip() if flash else "unknown",
        "kv_types": [list(pair) for pair in dict.fromkeys(kinds)],
    }


def _folder(library: Path) -> Path:
    """The folder in which the bindings will open libllama; a file must be the one that they open."""
    if not library.exists():
        raise Refusal(
            f"no such file or folder: {library}{meant(Path(library))}",
            field="library",
            remedy="name a shared build of llama.cpp",
        )
    folder = (library if library.is_dir() else library.parent).resolve()
    opened = [path for path in (folder / "libllama.so", folder / "libllama.dylib") if path.exists()]
    if not opened:
        raise Refusal(f"there is no libllama in {folder}", field="library", remedy="link its file there as libllama.so")
    if library.is_file() and library.resolve() != opened[0].resolve():
        raise Refusal(
            f"the bindings open {opened[0]}, which is not {library}", field="library", remedy="link it as libllama.so"
        )
    return folder


def _check_layout(llama: Any, library: str | None) -> None:
    for function, expected in (
        (llama.llama_context_default_params, CONTEXT_DEFAULTS),
        (llama.llama_model_default_params, MODEL_DEFAULTS),
    ):
        params = function()
        defaults = {name: getattr(params, name) for name in expected}
        if defaults != expected:
            wrong = {name: value for name, value in defaults.items() if value != expected[name]}
            right = {name: expected[name] for name in wrong}
            raise Refusal(
                f"this libllama is of another version than the bindings {llama.__version__}: its defaults read as {wrong}, "
                f"expected {right}",
                field="library" if library else "",
                remedy=ONE_VERSION,
            )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
