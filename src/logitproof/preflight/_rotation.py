"""Recognizes weights whose residual stream was turned (QuaRot, Ashkboos et al. 2024): the rotation is computed, not believed.

With the norms' weights folded into what reads from the stream, a turned model has E' = E R for the embedding, W' = W diag(g) R
for what reads from the stream, W' = Rᵀ W for what writes to it and norms of one. R is found from the embeddings by orthogonal
Procrustes (Schönemann 1966): of EᵀE' = U S Vᵀ it is U Vᵀ. Every other tensor is then compared with what R makes of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from logitproof.gguf.tensors import Index, Tensors, row_count
from logitproof.weights.checkpoint import Array
from logitproof.weights.rotate import NORMS, READERS, WRITERS

SAMPLE = 4
"""Rows of the embedding that are read, times its width: enough for the rotation to be overdetermined, few of a large one."""
SAME = 0.02
"""Relative distance of R from the identity below which nothing was turned."""
EMBEDDINGS = ("token_embd.weight", "model.embed_tokens.weight")
HEADS = {"token_embd.weight": "output.weight", "model.embed_tokens.weight": "lm_head.weight"}
_FINAL = {"output.weight": "output_norm.weight", "lm_head.weight": "model.norm.weight"}
_READS = re.compile(r"blk\.(\d+)\.(attn|ssm|ffn)_(?:q|k|v|qkv|gate|up|gate_inp|gate_exps|up_exps|alpha|beta|ba|in)\.weight$")
_WRITES = re.compile(r"blk\.\d+\.(?:attn_output|ffn_down|ffn_down_exps|ssm_out)\.weight$")
_NORMS = re.compile(
    r"(?:blk\.\d+\.(?:attn_norm|ffn_norm|post_attention_norm)|output_norm"
    r"|model\.layers\.\d+\.(?:input|post_attention)_layernorm|model\.norm)\.weight$"
)


@dataclass(frozen=True)
class Rotation:
    """R float64 [E, E], what of E' it leaves unexplained, relative to E', and how far a change of lengths it would be."""

    matrix: Array
    error: float
    determinant: float

    def __str__(self) -> str:
        size, kind = len(self.matrix), "rotation" if self.determinant > 0 else "rotation with a reflection"
        return f"{kind} of the residual stream, {size} x {size}, norms folded; the embeddings agree to {self.error:.1e}"


def find_rotation(reference: Tensors, candidate: Tensors, limit: float) -> Rotation | None:
    """The rotation that makes the reference's embedding the candidate's to within `limit`; None where nothing is turned."""
    name = next((name for name in EMBEDDINGS if name in reference.names and name in candidate.names), None)
    if name is None or reference.shape(name) != candidate.shape(name):
        return None
    count, width = row_count(reference.shape(name)), reference.shape(name)[-1]
    if count < width:
        return None
    index = None if count <= SAMPLE * width else np.linspace(0, count - 1, SAMPLE * width).astype(np.int64)
    a, b = (side.rows(name, index).astype(np.float64) for side in (reference, candidate))
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or not np.linalg.norm(b):
        return None
    if np.linalg.norm(a - b) <= limit * np.linalg.norm(b):
        return None  # what is not turned needs no decomposition, which is slow where the stream is wide
    u, singular, v = np.linalg.svd(a.T @ b)
    if singular[-1] <= 1e-12 * singular[0]:
        return None
    matrix = u @ v
    error = float(np.linalg.norm(a @ matrix - b) / np.linalg.norm(b))
    if not error <= limit or np.linalg.norm(matrix - np.eye(width)) <= SAME * np.sqrt(width):
        return None
    return Rotation(matrix, error, float(np.linalg.slogdet(matrix)[0]))


@dataclass
class Turned:
    """The tensors of the reference as the rotation makes them: what a turned model must hold, by its own names."""

    reference: Tensors
    rotation: Rotation
    centred: bool = False
    """whether the norms of the checkpoint store their weight less one"""
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        heads = [HEADS[name] for name in EMBEDDINGS if name in self.reference.names]
        self.names = [*self.reference.names, *(head for head in heads if head not in self.reference.names)]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.reference.shape(self._source(name))

    def kind(self, name: str) -> str:
        return self.reference.kind(self._source(name))

    def rows(self, name: str, index: Index = None) -> Array:
        """float32 [rows, columns] of the turned tensor."""
        source = self._source(name)
        if _NORMS.search(name):
            return np.full_like(self.reference.rows(name, index), 0.0 if self.centred else 1.0)
        if name in EMBEDDINGS:
            return self._read(self.reference.rows(source, index), None)
        if _WRITES.search(name) or WRITERS.search(name):
            return self._written(self.reference.rows(name), self.reference.shape(name), index)
        gain = self._gain(name)
        return self.reference.rows(source, index) if gain is None else self._read(self.reference.rows(source, index), gain)

    def _source(self, name: str) -> str:
        """The tensor that it is made of: a tied head has none of its own."""
        if name in self.reference.names:
            return name
        return next(embedding for embedding, head in HEADS.items() if head == name)

    def _gain(self, name: str) -> Array | None:
        """The weight of the norm before a tensor that reads from the stream; None of one that does not."""
        norm = _FINAL.get(name) or _norm_before(name, self.reference.names)
        if norm is None:
            return None
        return self.reference.rows(norm).astype(np.float64).reshape(-1) + (1.0 if self.centred else 0.0)

    def _read(self, rows: Array, gain: Array | None) -> Array:
        return np.asarray((rows if gain is None else rows * gain) @ self.rotation.matrix, np.float32)

    def _written(self, rows: Array, shape: tuple[int, ...], index: Index) -> Array:
        """Rᵀ W, of each matrix of a stack by itself."""
        stack = rows.reshape(-1, *shape[-2:]).astype(np.float64)
        turned = np.einsum("ij,xik->xjk", self.rotation.matrix, stack, optimize=True).reshape(rows.shape)
        return np.asarray(turned if index is None else turned[index], np.float32)


def _norm_before(name: str, names: list[str]) -> str | None:
    if match := _READS.search(name):
        layer, part = match.groups()
        leaves = ("ffn_norm", "post_attention_norm") if part == "ffn" else ("attn_norm",)
        return next((norm for leaf in leaves if (norm := f"blk.{layer}.{leaf}.weight") in names), None)
    if match := READERS.search(name):
        part = name[match.start() :].split(".")[2]
        norm = f"model.layers.{match.group(1)}.{NORMS[part]}.weight"
        return norm if norm in names else None
    return None
