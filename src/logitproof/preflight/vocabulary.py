"""The tokenizer: the same vocabulary, merges, special tokens and chat template on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from logitproof.errors import ContractError
from logitproof.gguf.side import Side
from logitproof.gguf.tensors import FolderTensors
from logitproof.preflight import Check, Finding, Setting, Setup, file_of, short
from logitproof.rows.distance import first_difference

PRE = "tokenizer.ggml.pre"
TYPE, BYTE, UNUSED = "tokenizer.ggml.token_type", 6, 5
ADD_BOS = "tokenizer.ggml.add_bos_token"
KNOWN = {
    "tokenizer.ggml.model": ("PF303", "tokenizer model"),
    PRE: ("PF304", "pre-tokenizer"),
    "tokenizer.ggml.tokens": ("PF302", "vocabulary"),
    TYPE: ("PF302", "token types"),
    "tokenizer.ggml.merges": ("PF303", "merges"),
    "tokenizer.ggml.bos_token_id": ("PF305", "BOS token"),
    "tokenizer.ggml.eos_token_id": ("PF305", "EOS token"),
    ADD_BOS: ("PF306", "BOS is added"),
    "tokenizer.ggml.add_eos_token": ("PF306", "EOS is added"),
    "tokenizer.chat_template": ("PF307", "chat template"),
}
ADDS_BOS_UNASKED = ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")
"""Pre-tokenizers for which llama.cpp adds BOS where the file does not say."""
REMEDY = "take the tokenizer files that belong to these weights and convert again"


class Vocabulary(Check):
    """Entry by entry: tokens, types, merges, pre-tokenizer, special tokens, what is added, chat template."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF301": "vocabulary of another size",
        "PF302": "a vocabulary entry differs",
        "PF303": "merges, or another kind of tokenizer",
        "PF304": "pre-tokenizer",
        "PF305": "a special token has another id",
        "PF306": "a special token is added on one side only",
        "PF307": "chat template",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        if "other" in (setup.original.format, setup.file.format):
            yield Setting("tokenizer", setup.original.format, setup.file.format, "not compared", "no tokenizer to read")
            return
        yield from _rows(setup.original)
        if setup.shares_file:
            yield Setting("tokenizer", setup.original.path.name, setup.file.path.name, "same", "one file")
            return
        reference, candidate = setup.original.tokenizer, setup.file.tokenizer
        if isinstance(reference, ContractError) or isinstance(candidate, ContractError):
            yield _not_compared(reference, candidate)
            return
        if not candidate or not reference:
            yield Setting("tokenizer", f"{len(reference)} keys", f"{len(candidate)} keys", "not compared", "one side has none")
            return
        for key, (code, name) in KNOWN.items():
            yield from _compare(key, code, name, reference, candidate, setup)


def _not_compared(reference: object, candidate: object) -> Setting:
    texts = [str(tokenizer.text) if isinstance(tokenizer, ContractError) else "read" for tokenizer in (reference, candidate)]
    return Setting("tokenizer", short(texts[0]), short(texts[1]), "not compared", "only byte-level BPE can be translated")


def _rows(side: Side) -> Iterator[Finding]:
    """A config may promise another vocabulary than the embedding has rows."""
    if side.format != "safetensors":
        return
    tensors, name = FolderTensors(side.path), "model.embed_tokens.weight"
    promised = side.config.get("vocab_size")
    if name in tensors.names and promised is not None and tensors.shape(name)[0] != promised:
        yield Finding(
            "PF301",
            "vocabulary size",
            f"{promised} in config.json",
            f"{tensors.shape(name)[0]} rows of {name}",
            file_of(side.path, "config.json"),
            "vocab_size",
            "take the config.json that belongs to these weights",
        )


def _compare(
    key: str, code: str, name: str, reference: Mapping[str, Any], candidate: Mapping[str, Any], setup: Setup
) -> Iterator[Setting | Finding]:
    reference_value, candidate_value = value_of(key, reference), value_of(key, candidate)
    if reference_value is None and candidate_value is None:
        return
    if key == TYPE:
        reference_value, candidate_value = _types(reference_value, candidate_value)
    if key == ADD_BOS or key == "tokenizer.ggml.add_eos_token":
        reference_value, candidate_value = bool(reference_value), bool(candidate_value)
    same = reference_value == candidate_value
    shown = _shown(reference_value, candidate_value)
    yield Setting(name, *shown, "same" if same else "differs")
    if same:
        return
    lists = isinstance(reference_value, list) and isinstance(candidate_value, list)
    if key == "tokenizer.ggml.tokens" and lists and len(reference_value) != len(candidate_value):
        code, name, shown = "PF301", "vocabulary size", (str(len(reference_value)), str(len(candidate_value)))
    file = setup.file.path
    field = key if setup.file.format == "gguf" else "tokenizer.json"
    yield Finding(code, name, *shown, file_of(file, "tokenizer.json"), field, REMEDY)


def value_of(key: str, keys: Mapping[str, Any]) -> Any:
    """The value, or what llama.cpp takes where the file does not say."""
    if key == ADD_BOS and key not in keys:
        return keys.get(PRE) in ADDS_BOS_UNASKED or keys.get("tokenizer.ggml.model") == "llama"
    return keys.get(key) or None if key == "tokenizer.chat_template" else keys.get(key)


def _types(reference: Any, candidate: Any) -> tuple[Any, Any]:
    """Both lists without the entries that one side calls unused or bytes: no text is tokenized to such an entry."""
    if not isinstance(reference, list) or not isinstance(candidate, list) or len(reference) != len(candidate):
        return None, None
    kept = [(a, b) for a, b in zip(reference, candidate, strict=True) if not {a, b} & {UNUSED, BYTE}]
    return [a for a, _ in kept], [b for _, b in kept]


def _shown(reference: Any, candidate: Any) -> tuple[str, str]:
    """Both values; of lists and long texts the place where they part."""
    if not any(isinstance(reference, kind) and isinstance(candidate, kind) for kind in (list, str)):
        return _brief(reference), _brief(candidate)
    at = first_difference(reference, candidate)
    if at == min(len(reference), len(candidate)):
        return _brief(reference), _brief(candidate)
    if isinstance(reference, str):
        begin = max(0, at - 10) if len(reference) > 40 else 0
        return short(reference[begin : begin + 40]), short(candidate[begin : begin + 40])
    return f"{at}: {short(reference[at], 40)}", f"{at}: {short(candidate[at], 40)}"


def _brief(value: Any) -> str:
    return "not there" if value is None else f"{len(value)} entries" if isinstance(value, list) else short(value, 40)
