"""The tokenizer of a folder or of a GGUF file by itself, for an engine that has none; no model is loaded, nothing fetched."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed, ModelError
from logitproof.files.hashes import file_state, folder_state
from logitproof.files.system import in_words
from logitproof.gguf.folder import folder_of
from logitproof.weights.model import is_gguf

REMEDY = "name a folder with tokenizer.json, or a GGUF file with a vocabulary"


class NamedTokenizer:
    """Cuts texts as the engine `transformers` does with the tokenizer of the same folder."""

    def __init__(self, tokenizer: Any, where: str) -> None:
        self._tokenizer, self.where = tokenizer, where

    def encode(self, text: str) -> list[int]:
        """Token ids, with the special tokens that the tokenizer adds."""
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=True)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids, special tokens kept and spaces as they are."""
        ids = [int(token) for token in token_ids]
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @property
    def size(self) -> int:
        """How many tokens there are, added ones too."""
        return len(self._tokenizer)


def named_tokenizer(path: Path) -> NamedTokenizer:
    """The tokenizer at `path`, read once for every state of its files.

    Raises ContractError of what is not there or has no tokenizer, EnvironmentFailed without transformers.
    """
    if not path.exists():
        raise ContractError("tokenizer names nothing: it is not there", where=str(path), remedy=REMEDY)
    path = path.resolve()
    try:
        state = folder_state(path) if path.is_dir() else file_state(path)
    except OSError as error:
        raise ContractError(f"tokenizer cannot be read: {in_words(error)}", where=str(path), remedy=REMEDY) from None
    return _read(path, state)


@functools.lru_cache(maxsize=8)
def _read(path: Path, state: object) -> NamedTokenizer:
    """The tokenizer of the files in this state: a process that lives on reads what changed since."""
    try:
        import transformers
    except ImportError as error:
        text = f"a named tokenizer is read with transformers: {error}"
        raise EnvironmentFailed(text, remedy="pip install 'logitproof[transformers]'") from None
    try:
        folder = folder_of(path) if is_gguf(path) else path
    except ModelError as error:
        raise ContractError(error.text, where=error.where, remedy=error.remedy) from None
    if not folder.is_dir():
        raise ContractError("tokenizer is neither a folder nor a GGUF file", where=str(path), remedy=REMEDY)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a file of somebody else makes the library raise
        text = f"has no tokenizer that can be read: {' '.join(str(error).split())[:300]}"
        raise ContractError(text, where=str(path), remedy=REMEDY) from None
    return NamedTokenizer(tokenizer, str(path))
