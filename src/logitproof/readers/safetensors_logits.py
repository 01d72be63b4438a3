"""The format `safetensors_logits`: a safetensors file with a tensor `logits`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.safetensors import Tensors, is_safetensors, read_header
from logitproof.readers import Peek, Reader
from logitproof.readers._arrays import LOGITS, TOKENS, dump_of
from logitproof.traces.dump import Dump


@dataclass
class SafetensorsLogits(Reader):
    """A `.safetensors` file with `logits` [T, V], bfloat16 too, and, if it has them, `token_ids` (`tokens`, `input_ids`)."""

    def recognizes(self, peek: Peek) -> bool:
        if not is_safetensors(peek.head, peek.size):
            return False
        try:
            names = set(read_header(peek.path)[0])
        except ContractError:
            return False
        return bool(names & set(LOGITS)) and "topk_ids" not in names

    def read(self, path: Path) -> Dump:
        tensors = Tensors(path)
        wanted = [name for name in tensors.names if name in (*LOGITS, *TOKENS)]
        return dump_of({name: _array(tensors, name) for name in wanted}, path)


def _array(tensors: Tensors, name: str) -> np.ndarray:
    """One tensor; of bfloat16 its bits, which NumPy has no type for."""
    if tensors.kind(name) == "BF16":
        return tensors.raw(name).view("<u2").reshape(tensors.shape(name))
    return tensors.array(name)
