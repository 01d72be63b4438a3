"""Files are written whole or not at all, and what the disk refuses is an environment error."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitproof.errors import EnvironmentFailed
from logitproof.files.system import in_words


def content_key(content: dict[str, Any]) -> str:
    """sha256 of the canonical JSON of everything that can change a trace."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file, text as UTF-8, so that a reader sees the old one or the new one, never a half."""
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def environment_errors(place: Path) -> Iterator[None]:
    """An OSError of writing is the machine's fault, and said so."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFailed(f"cannot write: {in_words(error)}", where=str(place), remedy=_remedy(error)) from None


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "give yourself the right to write there, or give another --out"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "take away what is in the way, or give another --out"
    return "free the disk or give another --out"
