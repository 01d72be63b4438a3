"""The format `golden`: what `logitproof freeze` writes; a safetensors container that NumPy alone can read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.safetensors import Tensors, is_safetensors, read_header
from logitproof.files.untrusted import parse_json, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.traces import rowcode as code
from logitproof.traces.dump import CodedRows, Dump, DumpedPrompt, TopK
from logitproof.traces.golden_header import CHECKSUMS, FORMAT, READ, GoldenPrompt, Header


@dataclass
class Golden(Reader):
    """A golden of `logitproof freeze`: exact top-k and compact logits of the rest, or the small form of top-k and tail mass.

    The header states the measured error, the versions and hashes, and the thread-count determinism.
    """

    def recognizes(self, peek: Peek) -> bool:
        if not is_safetensors(peek.head, peek.size):
            return False
        try:
            metadata = read_header(peek.path)[0].get("__metadata__", {})
        except ContractError:
            return False
        return isinstance(metadata, dict) and metadata.get("format") == FORMAT

    def header(self, path: Path) -> Header:
        """What the golden says of itself, without its rows."""
        return _header(Tensors(path), path)

    def read(self, path: Path) -> Dump:
        file = Tensors(path)
        header = _header(file, path)
        if header.version > 1:
            _refuse_changed(file, path)
        read = _full if header.form == "full" else _small
        prompts = tuple(read(file, header, number, path) for number in range(len(header.prompts)))
        about = header.model_dump(exclude={"prompts", "versions", "vocab_size"})
        return Dump(prompts, header.vocab_size, versions=header.versions, provenance=about)


def _header(file: Tensors, path: Path) -> Header:
    record = parse_json(file.metadata.get("header", ""), path, "header", remedy="freeze it again", halves=False)
    if isinstance(record, dict) and record.get("version") not in READ:
        text = f"is {record.get('version')!a}, this logitproof reads {' and '.join(map(str, READ))}"
        raise refusal(path, "version", text, "freeze it again, or install the version that wrote it")
    return validated(path, Header, record, "header")


def _refuse_changed(file: Tensors, path: Path) -> None:
    """Every tensor and the header are what was written: a golden is the truth of others, who cannot measure it again."""
    sums = parse_json(file.metadata.get(CHECKSUMS, ""), path, CHECKSUMS, remedy="freeze it again", halves=False)
    text = file.metadata.get("header", "")
    contents = {**{name: file.raw(name).data for name in file.names}, "header": memoryview(text.encode())}
    for name, content in contents.items():
        if not isinstance(sums, dict) or sums.get(name) != hashlib.sha256(content).hexdigest():
            reason = "is not what was frozen: its checksum is another, so a byte was changed or lost since"
            raise refusal(path, name, reason, "take the golden from where it was frozen, or freeze it again")
    if missing := sorted(set(sums) - set(contents)):
        raise refusal(path, missing[0], "was frozen and is not in the file", "take the golden from where it was frozen")


def _full(file: Tensors, header: Header, number: int, path: Path) -> DumpedPrompt:
    about, vocab = header.prompts[number], header.vocab_size
    ids = file.array(f"{number}.top_ids", "iu", 2)
    logits = file.array(f"{number}.top_logits", "f", 2)
    scale, widths = file.array(f"{number}.scale", "f", 2), file.array(f"{number}.width", "u", 1)
    rest = file.array(f"{number}.rest", "u", 1)
    ends = np.cumsum([code.row_bytes(vocab, int(width)) for width in widths])
    whole = ids.shape == logits.shape == (about.positions, header.top_k) and scale.shape == (len(widths), 2)
    if not whole or len(widths) != about.positions or ends[-1] != len(rest) or set(widths.tolist()) - set(code.WIDTHS):
        raise refusal(path, f"prompt {about.id}, rows", "their shapes do not fit the header", "freeze it again")
    if ids.max() >= vocab:
        raise refusal(path, f"prompt {about.id}, top_ids", f"holds {ids.max()}, the vocabulary is {vocab}", "freeze it again")

    def decode(row: int) -> np.ndarray:
        start = int(ends[row]) - code.row_bytes(vocab, int(widths[row]))
        decoded = code.decode(np.asarray(rest[start : ends[row]]), vocab, int(widths[row]), *map(float, scale[row]))
        decoded = decoded.astype(header.dtype)
        decoded[ids[row]] = logits[row]
        return decoded

    return _prompt(file, about, number, path, logits=CodedRows((about.positions, vocab), decode))


def _small(file: Tensors, header: Header, number: int, path: Path) -> DumpedPrompt:
    about, k = header.prompts[number], header.top_k
    rows = file.array(f"{number}.rows", "u", 2)
    if rows.shape != (about.positions, code.small_row_bytes(header.vocab_size, k)):
        raise refusal(path, f"prompt {about.id}, rows", f"their shape is {list(rows.shape)}", "freeze it again")
    decoded = [code.decode_small(np.asarray(row), k, header.vocab_size) for row in rows]
    top = TopK(
        ids=np.stack([ids for ids, _, _, _ in decoded]),
        values=np.stack([log_p for _, log_p, _, _ in decoded]),
        normalized=True,
        slack=max(slack for _, _, _, slack in decoded) + 1e-15,
        log_tail=np.array([log_tail for _, _, log_tail, _ in decoded]),
    )
    return _prompt(file, about, number, path, top=top)


def _prompt(
    file: Tensors, about: GoldenPrompt, number: int, path: Path, *, logits: CodedRows | None = None, top: TopK | None = None
) -> DumpedPrompt:
    tokens = file.array(f"{number}.token_ids", "iu", 1).tolist()
    if len(tokens) != about.positions:
        raise refusal(path, f"prompt {about.id}, token_ids", f"{len(tokens)} for {about.positions} rows", "freeze it again")
    return DumpedPrompt(
        about.id,
        tokens,
        about.prompt_length,
        np.arange(about.positions),
        logits,
        top,
        about.text,
        about.continuation_text,
        about.bucket,
    )
