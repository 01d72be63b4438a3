"""A libllama build: found by path, checked against the bindings, its log kept for error messages."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections import deque
from pathlib import Path
from typing import Any

from logitproof.engines import Refusal

KEPT_LINES = 400
EXPECTED_DEFAULTS = {"n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "type_k": 1, "type_v": 1, "n_seq_max": 1}
"""What llama_context_default_params gives in every recent version. The structure has changed between
versions, and one read through the wrong layout shows other numbers here before it does harm."""


class Log:
    """llama.cpp's own words, instead of on stderr; the lines of a failure become its message."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=KEPT_LINES)

    def add(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace").rstrip()
        if line and line.strip("."):
            self._lines.append((level, line))

    def clear(self) -> None:
        self._lines.clear()

    def errors(self) -> str:
        """The lines of ggml's level ERROR (4), or the last ones where there are none."""
        lines = [line for level, line in self._lines if level == 4] or [line for _, line in self._lines][-3:]
        return "; ".join(dict.fromkeys(lines)) or "it gave no reason"

    def matching(self, *prefixes: str) -> list[str]:
        return [line for _, line in self._lines if line.startswith(prefixes)]


class Library:
    """The bindings' module, loaded on one build. There is one a process."""

    def __init__(self, llama: Any, folder: Path, backend: str | None) -> None:
        self.llama, self.folder, self.backend = llama, folder, backend
        self.log = Log()
        # Kept on self: ctypes does not keep a callback alive.
        self._callback = llama.llama_log_callback(self.log.add)
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def versions(self) -> dict[str, str]:
        """Version, commit and sha256 of every library file of the build."""
        files = sorted({path.resolve() for path in self.folder.glob("lib*") if ".so" in path.name or path.suffix == ".dylib"})
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        return {
            "llama-cpp-python": self.llama.__version__,
            "llama.cpp": _text(self.llama.llama_version()),
            "ggml": f"{_call('ggml_version')} ({_call('ggml_commit')})",
            **{f"sha256 of {name}": value for name, value in hashes.items()},
        }

    def features(self) -> dict[str, str]:
        """The instruction sets that the loaded CPU backend says it was built for and found."""
        info = _text(self.llama.llama_print_system_info())
        return {"system_info": info.strip(), **({"backend": Path(self.backend).name} if self.backend else {})}


def open_library(library: str | None, backend: str | None) -> Library:
    """Load the build that `library` names (a folder, or the libllama file in it), or the bundled one."""
    if library is not None:
        folder = Path(library).resolve()
        folder = folder if folder.is_dir() else folder.parent
        if not any(folder.glob("libllama.*")):
            raise Refusal(f"there is no libllama in {folder}", field="library", remedy="name the folder of a shared build")
        os.environ["LLAMA_CPP_LIB_PATH"] = str(folder)
    # Here and not at the top, because the bindings read the path above when they are imported.
    try:
        import llama_cpp
    except (OSError, RuntimeError, AttributeError) as error:
        if library is None:
            raise
        raise Refusal(f"the bindings cannot load this build: {error}", field="library", remedy=_one_version()) from None
    _check_layout(llama_cpp, library)
    loaded = Library(llama_cpp, _folder(llama_cpp), backend)
    if backend is not None:
        _load_backend(backend)
    llama_cpp.llama_backend_init()
    return loaded


def _check_layout(llama: Any, library: str | None) -> None:
    params = llama.llama_context_default_params()
    found = {name: getattr(params, name) for name in EXPECTED_DEFAULTS}
    if found != EXPECTED_DEFAULTS:
        raise Refusal(
            f"this libllama is of another version than the bindings {llama.__version__}: its defaults read as {found}, "
            f"expected {EXPECTED_DEFAULTS}",
            field="library" if library else "",
            remedy=_one_version(),
        )


def _one_version() -> str:
    return "bindings and library must be of one version: build the llama.cpp that is inside this llama-cpp-python"


def _load_backend(path: str) -> None:
    if not Path(path).is_file():
        raise Refusal(f"no such file: {path}", field="backend")
    ggml = _ggml()
    ggml.ggml_backend_load.restype = ctypes.c_void_p
    if not ggml.ggml_backend_load(str(Path(path).resolve()).encode()):
        raise Refusal(f"llama.cpp cannot load the backend {path} on this processor", field="backend")


def _folder(llama: Any) -> Path:
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    return Path(override) if override else Path(llama.__file__).parent / "lib"


def _ggml() -> Any:
    from llama_cpp import _ggml

    return _ggml.libggml


def _call(name: str) -> str:
    try:
        function = getattr(_ggml(), name)
    except AttributeError:
        return "unknown"
    function.restype = ctypes.c_char_p
    return _text(function())


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
