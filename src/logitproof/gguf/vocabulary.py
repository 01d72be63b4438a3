"""The vocabulary of a model file: how many tokens, and the text of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, ModelError, Refusal
from logitproof.files.causes import cause_of
from logitproof.files.gguf import GgufFile
from logitproof.files.untrusted import read_object
from logitproof.gguf.tokenizer import tokenizer_keys
from logitproof.weights.config import read_config
from logitproof.weights.model import is_gguf

TOKENS = "tokenizer.ggml.tokens"
TYPES = "tokenizer.ggml.token_type"
NORMAL, CONTROL = 1, 3
"""ggml's token type of ordinary text; all others are special, control or single bytes."""


def vocabulary_size(model: Path) -> int:
    """Rows of logits' width that the file announces: `vocab_size` of a folder's config, or a GGUF's tokens."""
    if model.is_dir():
        return int(_config(model)["vocab_size"])
    field = _gguf(model).get_field(TOKENS)
    if field is None:
        raise Refusal(f"{model} has no {TOKENS}, so nobody knows its vocabulary", field="model")
    return len(field)


def token_count(model: Path) -> int | None:
    """Tokens that a folder's tokenizer.json or a GGUF file has, up to the largest id; None where there is no tokenizer."""
    if not model.is_dir():
        field = _gguf(model).get_field(TOKENS) if is_gguf(model) else None
        return None if field is None else len(field)
    path = model / "tokenizer.json"
    if not path.is_file():
        return None
    content = read_object(path, kind=ModelError)
    kind, added = content.get("model"), content.get("added_tokens")
    vocabulary = kind.get("vocab") if isinstance(kind, dict) else None
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [*range(len(vocabulary or []))]
    ids += [entry.get("id") for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    numbers = [number for number in ids if isinstance(number, int)]
    return max(numbers) + 1 if numbers else None


@dataclass(frozen=True)
class Texts:
    """`bytes` of every token by its id; `ids` by text, for texts that exactly one token has and UTF-8 keeps whole."""

    bytes: list[bytes]
    ids: dict[str, int]

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of tokens; a Refusal where they are no whole characters."""
        try:
            return b"".join(self.bytes[token] for token in token_ids).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refusal(f"tokens {list(token_ids)[-4:]} end within a character: {error}", field="token_ids") from None


def token_texts(model: Path) -> Texts:
    """The texts of a byte-level BPE vocabulary."""
    keys = _keys(model)
    if keys.get("tokenizer.ggml.model") != "gpt2":
        raise Refusal("only byte-level BPE vocabularies can be read by text", field="model")
    bytes_of = {char: byte for byte, char in _byte_characters().items()}
    tokens = keys.get(TOKENS)
    if not isinstance(tokens, list) or not tokens or not all(isinstance(text, str) for text in tokens):
        raise Refusal(f"{model.name} says that its vocabulary is of bytes, and has no list of tokens", field="model")
    kinds = keys.get(TYPES) or [NORMAL] * len(tokens)
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise Refusal(f"{model.name} has {len(tokens)} tokens, and {TYPES} is no list of as many", field="model")
    known = [
        bytes(bytes_of[char] for char in text) if kind == NORMAL and all(char in bytes_of for char in text) else text.encode()
        for text, kind in zip(tokens, kinds, strict=True)
    ]
    places: dict[str, list[int]] = {}
    for token, raw in enumerate(known):
        places.setdefault(raw.decode("utf-8", "replace"), []).append(token)
    return Texts(known, {text: ids[0] for text, ids in places.items() if len(ids) == 1 and text and "�" not in text})


def special_tokens(model: Path) -> list[str]:
    """Texts of the special tokens that a folder's tokenizer.json or a GGUF file names; nothing where there is none to read."""
    if model.is_dir():
        path = model / "tokenizer.json"
        added = read_object(path, kind=ModelError).get("added_tokens") if path.is_file() else []
        entries = [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
        return [str(entry.get("content", "")) for entry in entries if entry.get("special") is True]
    if not is_gguf(model):
        return []
    file = _gguf(model)
    tokens, kinds = file.value(TOKENS, []), file.value(TYPES, [])
    if not isinstance(tokens, list) or not isinstance(kinds, list):
        raise Refusal(f"{model.name} has a {TOKENS} or {TYPES} that is no list", field="model")
    return [str(text) for text, kind in zip(tokens, kinds, strict=False) if kind == CONTROL]


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = read_config(folder)
        return {**config, "vocab_size": int(config.get("vocab_size") or config["text_config"]["vocab_size"])}
    except (ContractError, KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{folder}/config.json says no vocab_size: {cause_of(error)}", field="model") from None


def _keys(model: Path) -> dict[str, Any]:
    if model.is_dir():
        return tokenizer_keys(model, _config(model)["vocab_size"])
    return {name: field.contents() for name, field in _gguf(model).fields.items() if name.startswith("tokenizer.")}


def _gguf(model: Path) -> GgufFile:
    try:
        return GgufFile(model)
    except ContractError as error:
        text = f"{model} is neither an HF folder nor a GGUF file: {error.where}: {error.text}"
        raise Refusal(text, field="model", remedy=error.remedy) from None


def _byte_characters() -> dict[int, str]:
    """The printable character that byte-level BPE (GPT-2) writes for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
