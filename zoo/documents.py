"""The training text: documents out of `zoo/corpus/*.txt`, split into train and held-out, as one token stream."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
HELD_OUT_EVERY = 11  # one document in eleven is never trained on: enough of every language to measure on


def read_documents(folder: Path = CORPUS) -> list[str]:
    """Every document, in the order of file names; a line `%%` stands between two documents."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    parts = [part.strip("\n") for text in texts for part in f"\n{text}\n".split("\n%%\n")]
    return [part for part in parts if part.strip()]


def split_documents(documents: list[str]) -> tuple[list[str], list[str]]:
    """(train, held-out): chosen by position, so that every language and code has its share in both."""
    held_out = documents[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY]
    train = [text for at, text in enumerate(documents) if at % HELD_OUT_EVERY != HELD_OUT_EVERY // 2]
    return train, held_out


def sha256_of_corpus(folder: Path = CORPUS) -> str:
    """One digest over the names and bytes of all corpus files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.txt")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def pack(encoded: list[list[int]], end_of_text: int, shuffle: random.Random | None = None) -> list[int]:
    """One token stream; every document is followed by the family's end-of-text token."""
    order = list(encoded)
    if shuffle is not None:
        shuffle.shuffle(order)
    return [token for document in order for token in (*document, end_of_text)]
