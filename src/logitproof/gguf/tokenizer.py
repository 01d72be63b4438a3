"""The tokenizer keys of a GGUF file, read from the tokenizer files of an HF folder.

Only byte-level BPE is known. llama.cpp re-implements pre-tokenizers by name, so the regular expression in
tokenizer.json decides the name: one that is not listed would be tokenized differently, and is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from logitproof.errors import ModelError
from logitproof.files.untrusted import Foreign, read_text, validated
from logitproof.weights.checkpoint import read_json
from logitproof.weights.config import LIMITS, REMEDY, read_config

WHOLE = "take the tokenizer's files from the model's publisher"

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # enum llama_token_type

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
_TAIL = r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE, _ENDINGS = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_AFTER = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = f"{_BEFORE}{_UPPER}*{_LOWER}+{_ENDINGS}|{_BEFORE}{_UPPER}+{_LOWER}*{_ENDINGS}|\\p{{N}}{{1,3}}|{_AFTER}"
TEKKEN = f"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\\p{{N}}|{_AFTER}"
PRE_TOKENIZERS: dict[str, str] = {
    _WORDS + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+" + _TAIL: "llama-bpe",
    _WORDS + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+" + _TAIL: "qwen2",
    _WORDS + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+" + _TAIL: "qwen35",
    GPT4O: "gpt-4o",
    TEKKEN: "tekken",
}
"""llama.cpp's name of each split expression; GPT-2's, which is part of the byte-level step, has no expression of its own."""
SPECIAL_KEYS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}  # GGUF spells the separator's key so


TokenId = Annotated[int, Field(ge=0, le=LIMITS["vocab_size"])]


class _Name(Foreign):
    type: str | None = None


class _Kind(Foreign):
    """What says which sort of tokenizer it is; the rest is looked at where it is byte-level BPE."""

    model: _Name


class _Bpe(Foreign):
    vocab: dict[str, TokenId]
    merges: list[str | list[str]]


class _Added(Foreign):
    id: TokenId
    content: str
    special: bool


class _Part(Foreign):
    """A step of a pre-tokenizer or a post-processor, or one that consists of steps."""

    type: str | None = None
    pattern: dict[str, str] = Field({})
    pretokenizers: list[_Part] = Field([])
    processors: list[_Part] = Field([])
    single: list[dict[str, dict[str, Any]]] = Field([])
    pair: list[dict[str, dict[str, Any]]] = Field([])


class _Tokenizer(Foreign):
    model: _Bpe
    added_tokens: list[_Added] = Field([])
    pre_tokenizer: _Part | None = None
    post_processor: _Part | None = None


class _Token(Foreign):
    content: str | None = None


class _Settings(Foreign):
    """The special tokens of tokenizer_config.json: a text each, or an object with its content."""

    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    unk_token: str | _Token | None = None
    sep_token: str | _Token | None = None
    pad_token: str | _Token | None = None
    cls_token: str | _Token | None = None
    mask_token: str | _Token | None = None


def tokenizer_keys(folder: Path, rows: int) -> dict[str, Any]:
    """Every `tokenizer.*` key; `rows` is the number of embedding rows, which may pass the number of tokens."""
    path = folder / "tokenizer.json"
    tokenizer = read_json(path)
    validated(path, _Kind, tokenizer, remedy=WHOLE)
    settings = read_json(folder / "tokenizer_config.json")
    if tokenizer["model"].get("type") != "BPE":
        raise ModelError(
            f"tokenizer of type {tokenizer['model'].get('type')!r}",
            where=str(folder / "tokenizer.json"),
            remedy="only byte-level BPE tokenizers can be converted",
        )
    validated(path, _Tokenizer, tokenizer, remedy=WHOLE)
    validated(folder / "tokenizer_config.json", _Settings, settings, remedy=WHOLE)
    if not 0 < rows <= LIMITS["vocab_size"]:
        text = f"is {rows}, not 1 to {LIMITS['vocab_size']}"
        raise ModelError(text, where=f"{folder / 'config.json'}: vocab_size", remedy=REMEDY)
    tokens, types = _tokens(tokenizer, rows, folder)
    keys: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _pre_tokenizer_name(tokenizer, folder),
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [_merge(pair) for pair in tokenizer["model"]["merges"]],
    }
    config = read_config(folder)
    keys |= _special_ids(tokenizer, settings, config) | _added_automatically(tokenizer, settings)
    template = _chat_template(folder, settings)
    return keys | ({"tokenizer.chat_template": template} if template else {})


def _tokens(tokenizer: dict[str, Any], rows: int, folder: Path) -> tuple[list[str], list[int]]:
    """(token texts, token types) for ids 0 to rows - 1."""
    named = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    types = dict.fromkeys(named, NORMAL)
    for added in tokenizer.get("added_tokens", []):
        text = added["content"]
        named[added["id"]] = text
        # the converter of llama.cpp also takes tokens for control tokens that only look like it
        special = added["special"] or (text.startswith("<|") and text.endswith("|>"))
        types[added["id"]] = CONTROL if special else USER_DEFINED
    if (largest := max(named, default=0)) >= rows:
        raise ModelError(
            f"token id {largest} has no row in an embedding of {rows}",
            where=str(folder / "tokenizer.json"),
            remedy="take the tokenizer that belongs to these weights",
        )
    return [named.get(at, f"[PAD{at}]") for at in range(rows)], [types.get(at, UNUSED) for at in range(rows)]


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _pre_tokenizer_name(tokenizer: dict[str, Any], folder: Path) -> str:
    """llama.cpp's name for the split expression."""
    step = tokenizer.get("pre_tokenizer") or {}
    parts = step.get("pretokenizers", [step])
    patterns = [_expression(part.get("pattern")) for part in parts if part.get("type") == "Split"]
    if len(patterns) == 1 and patterns[0] in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[patterns[0]]
    if parts and not patterns and parts[-1].get("type") == "ByteLevel" and parts[-1].get("use_regex", True):
        before = [(part.get("type"), part.get("individual_digits")) for part in parts[:-1]]
        if before in ([], [("Digits", True)]):
            return "smollm" if before else "gpt-2"
    raise ModelError(
        f"unknown pre-tokenizer {patterns}",
        where=str(folder / "tokenizer.json"),
        remedy="add the expression and llama.cpp's name for it to PRE_TOKENIZERS",
    )


def _expression(pattern: object) -> str:
    """The regular expression of a split; nothing where it splits by a text, or by what is no pattern."""
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    return expression if isinstance(expression, str) else ""


def _content(entry: str | dict[str, Any] | None) -> str:
    return entry.get("content", "") if isinstance(entry, dict) else entry or ""


def _special_ids(tokenizer: dict[str, Any], settings: dict[str, Any], config: dict[str, Any]) -> dict[str, int]:
    """Ids of the special tokens: as the tokenizer names them, else as the model's config numbers them."""
    added = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", [])}
    ids: dict[str, int] = {}
    for name, key in SPECIAL_KEYS.items():
        number = added.get(_content(settings.get(f"{name}_token")), config.get(f"{name}_token_id"))
        if isinstance(number, int):
            ids[f"tokenizer.ggml.{key}_token_id"] = number
    return ids


def _added_automatically(tokenizer: dict[str, Any], settings: dict[str, Any]) -> dict[str, bool]:
    """Which special tokens the post-processor puts around a text; where it is silent, the tokenizer's settings."""
    adds: dict[str, bool] = {}
    processor = tokenizer.get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        if step.get("type") == "ByteLevel":
            adds = {"bos": False, "eos": False} | adds
        elif step.get("type") == "TemplateProcessing":
            adds |= _added_by_template(step, settings)
    for name in SPECIAL_KEYS:
        if isinstance(settings.get(f"add_{name}_token"), bool):
            adds.setdefault(name, settings[f"add_{name}_token"])
    return {f"tokenizer.ggml.add_{name}_token": value for name, value in adds.items()}


def _added_by_template(step: dict[str, Any], settings: dict[str, Any]) -> dict[str, bool]:
    """Special tokens in a `TemplateProcessing` step: before and after one text, and between two."""
    begin, end, separator = (_content(settings.get(f"{name}_token")) for name in ("bos", "eos", "sep"))
    single = [part.get("SpecialToken", {}).get("id") for part in step.get("single", [])]
    pair = [part.get("SpecialToken", {}).get("id") for part in step.get("pair", [])]
    adds: dict[str, bool] = {}
    first, last = (single[0], single[-1]) if len(single) > 1 else (None, None)
    if first:
        adds["bos"] = first == begin
    if last:
        adds["eos"] = last == end
    inner = pair[1 if first else 0 : -1 if last else None]
    between = inner[1:-1] if len(inner) > 2 else []
    if between:
        adds["sep"] = between[0] in (separator, end) and not last
    return adds


def _chat_template(folder: Path, settings: dict[str, Any]) -> str:
    """The chat template, from the tokenizer's settings or from its own file."""
    named = settings.get("chat_template")
    if isinstance(named, str):
        return named
    path = folder / "chat_template.jinja"
    return read_text(path, kind=ModelError) if path.is_file() else ""
