"""The format `torch_pt`: what `torch.save` writes, read with weights_only, so that no code of the file is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.files.arrays import archive_members, read_torch
from logitproof.files.untrusted import AGAIN, refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._arrays import REMEDY, dump_of
from logitproof.traces.dump import Dump


@dataclass
class TorchPt(Reader):
    """A `.pt` file: a tensor of logits [T, V], or a mapping with `logits` and, if it has them, `token_ids`. Needs torch."""

    def recognizes(self, peek: Peek) -> bool:
        return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive_members(peek.path, peek.head))

    def read(self, path: Path) -> Dump:
        content = read_torch(path)
        import torch

        given = {"logits": content} if isinstance(content, torch.Tensor) else content
        if not isinstance(given, dict):
            raise refusal(path, "", f"holds a {type(content).__name__}", REMEDY)
        return dump_of({str(name): array for name, value in given.items() if (array := _array(value, path)) is not None}, path)


def _array(value: Any, path: Path) -> np.ndarray | None:
    """A tensor or a list of whole numbers as an array; bfloat16 as float32, which holds it exactly."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_sparse or value.is_quantized or value.is_complex():
            raise refusal(path, "logits", f"are {value.layout} {value.dtype}", AGAIN)
        plain = value.detach().float() if value.dtype is torch.bfloat16 else value.detach()
        return np.asarray(plain.numpy())
    if isinstance(value, list) and value and all(isinstance(token, int) for token in value):
        return np.array(value, np.int64)
    return None
