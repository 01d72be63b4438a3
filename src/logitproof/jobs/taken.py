"""An answer's file becomes the harness's own: from then on nothing that the engine does to it changes a number or ends a run.

The engine still holds the file open, and may shorten it under a mapping, which would be a SIGBUS here. So it is copied once,
under a name that the engine was never told, and what the engine wrote is unlinked. A link is no answer: what it points to
may be another engine's rows.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from logitproof.files.atomic import environment_errors
from logitproof.files.system import in_words
from logitproof.protocol.messages import Tensor

BLOCK = 1 << 22


class NotTaken(Exception):
    """The file is not what the answer says; the text says why."""


def taken(tensor: Tensor) -> Tensor:
    """The tensor in a file of ours beside the one that was answered, which is gone.

    Raises NotTaken for a link, for what is no plain file, and for another size than the tensor has.
    """
    path = Path(tensor.path)
    own = path.with_name(f".{secrets.token_hex(8)}")
    try:
        # without following a link, and without waiting for a pipe to be written
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NotTaken("it is a link" if path.is_symlink() else f"{in_words(error)}: {path.name}") from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
            raise NotTaken("it is a link to another file" if state.st_nlink > 1 else "it is no plain file")
        if state.st_size != tensor.size:
            raise NotTaken(tensor.other_size(state.st_size))
        _copy(file.fileno(), own, tensor)
    path.unlink(missing_ok=True)
    return tensor.model_copy(update={"path": str(own)})


def _copy(source: int, own: Path, tensor: Tensor) -> None:
    left = tensor.size
    with environment_errors(own), own.open("xb") as copy:
        while left and (block := os.read(source, min(BLOCK, left))):
            copy.write(block)
            left -= len(block)
    if left:
        own.unlink()
        raise NotTaken(tensor.other_size(tensor.size - left))
