"""tokenizer.json and its settings from the vocabulary of a GGUF file: byte-level BPE, and SentencePiece's pieces with scores.

Pre-tokenizers are llama.cpp's, by its names for them (src/llama-vocab.cpp). What it does not do (composing text to NFC, as
some families' own tokenizers do) is not done here either: the file does not say it.
"""

from __future__ import annotations

from typing import Any

from logitproof.errors import ModelError
from logitproof.files.gguf import GgufFile
from logitproof.gguf.tokenizer import CONTROL, GPT4O, NORMAL, PRE_TOKENIZERS, SPECIAL_KEYS, TEKKEN, UNUSED, USER_DEFINED

UNKNOWN, BYTE = 2, 6
"""Of enum llama_token_type."""
SPACE = "\u2581"
"""What SentencePiece writes for a space."""
LLAMA3 = next(pattern for pattern, name in PRE_TOKENIZERS.items() if name == "llama-bpe")
QWEN2 = next(pattern for pattern, name in PRE_TOKENIZERS.items() if name == "qwen2")
QWEN35 = next(pattern for pattern, name in PRE_TOKENIZERS.items() if name == "qwen35")
SPLITS = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan"), QWEN2),
    "qwen35": QWEN35,
    **dict.fromkeys(("gpt-4o", "llama4"), GPT4O),
    "tekken": TEKKEN,
}
"""Pre-tokenizers that are one expression."""
DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
"""Those that cut out every digit and then go as GPT-2's."""
GPT2 = ("gpt-2", "olmo", "mpt", "phi-2", "jais", "trillion")
IGNORES_MERGES = ("llama-bpe", "llama3", "llama-v3", "falcon3", "tekken", "chatglm-bpe", "glm4")
"""Pre-tokenizers whose words are taken whole where the vocabulary has them."""
ADDS_BOS = ("llama-bpe", "llama3", "llama-v3", "falcon3", "tekken")
"""Byte-level pre-tokenizers for which llama.cpp adds BOS where the file does not say."""
AGAIN = "name the Hugging Face folder as `original`, or take a file of another converter"


def tokenizer_files(file: GgufFile) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json) of the vocabulary in a file; ModelError of one that is not known."""
    kind = file.value("tokenizer.ggml.model")
    tokens = file.value("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise ModelError("holds no vocabulary", where=f"{file.path}: tokenizer.ggml.tokens", remedy=AGAIN)
    types = file.value("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise ModelError(f"holds {len(types)} types of {len(tokens)} tokens", where=f"{file.path}: tokenizer.ggml.token_type")
    if kind == "gpt2":
        made = _byte_level(file, tokens, types)
    elif kind == "llama":
        made = _pieces(file, tokens, types)
    else:
        raise ModelError(f"is {kind!r}, which is not known", where=f"{file.path}: tokenizer.ggml.model", remedy=AGAIN)
    settings = _settings(file, tokens)
    made |= {"version": "1.0", "truncation": None, "padding": None, "added_tokens": _added(tokens, types)}
    made["post_processor"] = _post_processor(file, settings, made["post_processor"])
    return made, settings


def adds(file: GgufFile, name: str) -> bool:
    """Whether llama.cpp puts this special token around a text."""
    default = name == "bos" and (file.value("tokenizer.ggml.model") == "llama" or file.value("tokenizer.ggml.pre") in ADDS_BOS)
    return bool(file.value(f"tokenizer.ggml.add_{name}_token", default))


def special_id(file: GgufFile, name: str) -> int | None:
    """The id of a special token; SentencePiece's own where the file names none."""
    usual = {"bos": 1, "eos": 2, "unk": 0} if file.value("tokenizer.ggml.model") == "llama" else {}
    number = file.value(f"tokenizer.ggml.{SPECIAL_KEYS[name]}_token_id", usual.get(name))
    size = len(file.fields["tokenizer.ggml.tokens"]) if "tokenizer.ggml.tokens" in file.fields else 0
    return number if isinstance(number, int) and 0 <= number < size else None


def _byte_level(file: GgufFile, tokens: list[str], types: list[int]) -> dict[str, Any]:
    name = file.value("tokenizer.ggml.pre", "default")
    merges = file.value("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise ModelError("is not there", where=f"{file.path}: tokenizer.ggml.merges", remedy=AGAIN)
    return {
        "normalizer": None,
        "pre_tokenizer": _pre_tokenizer(file, name),
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": _bpe(_numbered(tokens, types), [_pair(merge) for merge in merges]) | {"ignore_merges": name in IGNORES_MERGES},
    }


def _pre_tokenizer(file: GgufFile, name: str) -> dict[str, Any]:
    bytes_of: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    if name in SPLITS:
        split = {"type": "Split", "pattern": {"Regex": SPLITS[name]}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, bytes_of | {"use_regex": False}]}
    if name in DIGITS:
        digits = {"type": "Digits", "individual_digits": True}
        return {"type": "Sequence", "pretokenizers": [digits, bytes_of | {"use_regex": True}]}
    if name in GPT2:
        return bytes_of | {"use_regex": True}
    known = ", ".join(sorted({*SPLITS, *DIGITS, *GPT2}))
    text = f"is {name!r}, whose words are not known (known: {known})"
    raise ModelError(text, where=f"{file.path}: tokenizer.ggml.pre", remedy=AGAIN)


def _pieces(file: GgufFile, tokens: list[str], types: list[int]) -> dict[str, Any]:
    """SentencePiece's pairs, best score first, as merges: the same piece comes of every pair of its parts."""
    scores = file.value("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ModelError("does not hold a score of every token", where=f"{file.path}: tokenizer.ggml.scores", remedy=AGAIN)
    prefixed = bool(file.value("tokenizer.ggml.add_space_prefix", True))
    spaces: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    ]  # fmt: skip
    if prefixed:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    before = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, spaces]}
    model = _bpe(_numbered(tokens, types), _merges(tokens, types, scores))
    unknown = special_id(file, "unk")
    return {
        "normalizer": before if prefixed else spaces,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model | {"byte_fallback": True, "fuse_unk": True, "unk_token": None if unknown is None else tokens[unknown]},
    }


def _merges(tokens: list[str], types: list[int], scores: list[float]) -> list[list[str]]:
    """Every pair of pieces that is a piece, by its score, then by its place in the vocabulary."""
    pieces = {token: number for number, token in enumerate(tokens) if types[number] == NORMAL}
    pairs: list[tuple[float, int, int, str, str]] = []
    for token, number in pieces.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in pieces and right in pieces:
                pairs.append((-scores[number], number, cut, left, right))
    return [[left, right] for *_, left, right in sorted(pairs)]


def _bpe(vocabulary: dict[str, int], merges: list[list[str]]) -> dict[str, Any]:
    return {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": merges,
    }  # fmt: skip


def _numbered(tokens: list[str], types: list[int]) -> dict[str, int]:
    """Ids by text without those that fill up the embedding; of a text that stands twice the first, as llama.cpp has it."""
    numbers: dict[str, int] = {}
    for number, token in enumerate(tokens):
        if types[number] != UNUSED:
            numbers.setdefault(token, number)
    return numbers


def _pair(merge: str) -> list[str]:
    left, _, right = merge[1:].partition(" ")
    return [merge[:1] + left, right]


def _added(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    """Control and user-defined tokens, which are cut out of a text before anything else."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": number, "content": token, **flags, "special": types[number] != USER_DEFINED}
        for number, token in enumerate(tokens)
        if types[number] in (CONTROL, UNKNOWN, USER_DEFINED) and token
    ]


def _settings(file: GgufFile, tokens: list[str]) -> dict[str, Any]:
    """tokenizer_config.json: the names of the special tokens and what is added."""
    made: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name in SPECIAL_KEYS:
        number = special_id(file, name)
        made[f"{name}_token"] = None if number is None else tokens[number]
    made |= {f"add_{name}_token": adds(file, name) for name in ("bos", "eos")}
    length = file.value(f"{file.value('general.architecture')}.context_length")
    return made | ({"model_max_length": length} if isinstance(length, int) else {})


def _post_processor(file: GgufFile, settings: dict[str, Any], inner: dict[str, Any] | None) -> dict[str, Any] | None:
    """The template that puts BOS and EOS around a text, behind what the kind of tokenizer does itself."""
    around = {name: settings[f"{name}_token"] for name in ("bos", "eos") if settings[f"add_{name}_token"]}
    around = {name: token for name, token in around.items() if token is not None}
    if not around:
        return inner
    ids = {token: special_id(file, name) for name, token in around.items()}
    template = {
        "type": "TemplateProcessing",
        "single": _framed(around, "A", 0),
        "pair": _framed(around, "A", 0) + _framed(around, "B", 1),
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]} for token, number in ids.items()},
    }
    return {"type": "Sequence", "processors": [inner, template]} if inner else template


def _framed(around: dict[str, str], letter: str, kind: int) -> list[dict[str, Any]]:
    """A text between the special tokens that go before and behind it."""
    framed: list[dict[str, Any]] = [{"Sequence": {"id": letter, "type_id": kind}}]
    if "bos" in around:
        framed.insert(0, {"SpecialToken": {"id": around["bos"], "type_id": kind}})
    if "eos" in around:
        framed.append({"SpecialToken": {"id": around["eos"], "type_id": kind}})
    return framed
