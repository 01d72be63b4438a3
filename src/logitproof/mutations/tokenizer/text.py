"""Another text than the one that was given is tokenized."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from logitproof.mutations import Record
from logitproof.mutations.tokenizer._text import WrongText, WrongTokenizer, encoded, text_of


class BlankBeforeText(WrongText, id="tokenizer.blank_before_text"):
    """A blank is put before every text: the rule of SentencePiece models is applied to one without it."""

    record = Record(
        shows="the first word gives another id",
        remedy="read add_prefix_space from the tokenizer",
        seen_in=("LLamaSharp #856",),
    )

    def read(self, text: str) -> str:
        return f" {text}"


class Stripped(WrongText, id="tokenizer.stripped"):
    """Blanks at the ends of the text are taken off."""

    record = Record(
        shows="exact but for texts that begin or end with blanks",
        remedy="tokenize the text as it is",
        seen_in=("helm #2467",),
    )

    def read(self, text: str) -> str:
        return text.strip()


class BlanksCollapsed(WrongText, id="tokenizer.blanks_collapsed"):
    """White space is normalized: a run of blanks becomes one."""

    record = Record(
        shows="code, tables and line breaks give other ids",
        remedy="tokenize the text as it is",
        seen_in=("open_llama #40",),
    )

    def read(self, text: str) -> str:
        return re.sub(r"\s+", " ", text)


class BytesAsLatin1(WrongText, id="tokenizer.bytes_as_latin_1"):
    """UTF-8 is encoded twice: bytes of the text are taken for characters of Latin-1."""

    record = Record(
        shows="texts outside ASCII give other and more ids",
        remedy="decode the text once",
    )

    def read(self, text: str) -> str:
        return text.encode().decode("latin-1")


class CompatibilityForms(WrongText, id="tokenizer.compatibility_forms"):
    """Compatibility characters are replaced (NFKC)."""

    record = Record(
        shows="superscripts, ligatures and full-width characters give other ids",
        remedy="read the normalizer from the tokenizer's file",
    )

    def read(self, text: str) -> str:
        return unicodedata.normalize("NFKC", text)


class OtherNormalization(WrongTokenizer, id="tokenizer.other_normalization"):
    """NFC is applied where the tokenizer has none, or left out where it has it."""

    record = Record(
        shows="only texts with combining marks give other ids",
        remedy="read the normalizer from the tokenizer's file",
        seen_in=("wordchipper #387",),
    )

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        text = text_of(token_ids, tokenizer)
        if tokenizer.backend_tokenizer.normalizer is None:
            return encoded(tokenizer, unicodedata.normalize("NFC", text))
        bare = Tokenizer.from_str(json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()) | {"normalizer": None}))
        return list(bare.encode(text).ids)


class UnknownCharactersDropped(WrongText, id="tokenizer.unknown_characters_dropped"):
    """Characters outside the vocabulary are dropped: there is no fallback to bytes."""

    record = Record(
        shows="texts outside ASCII lose characters",
        remedy="fall back to the tokens of the bytes",
        seen_in=("aprender #2139",),
    )

    def read(self, text: str) -> str:
        return text.encode("ascii", "ignore").decode()
