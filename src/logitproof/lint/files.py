"""Files and options that `check` would refuse before any engine computes: told here, without one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from logitproof import catalog
from logitproof.contract.contract import ORIGINAL, EngineUse
from logitproof.contract.opened import OpenContract
from logitproof.errors import LogitproofError, Refusal
from logitproof.files.nearest import meant
from logitproof.gguf.vocabulary import token_count, vocabulary_size
from logitproof.jobs.plan import matrix_cells
from logitproof.jobs.sides import config_of, path_of
from logitproof.lint import Finding, Rule
from logitproof.lint._option_types import option_fault
from logitproof.weights.hub_id import hub_id


class Files(Rule):
    """What the contract names, and what its engines are given."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP070": "a file or a folder that is not there",
        "LP071": "an option of the wrong type, or one that is missing",
        "LP072": "a tokenizer that is none, or that has other tokens than the model",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Look at the weights that a cell reads, at interpreters and at every option."""
        read = {(cell.model, cell.quantization) for cell in matrix_cells(opened)}
        read |= {(model, ORIGINAL) for model, _ in read if ORIGINAL in opened.contract.models[model]}
        for name, label in sorted(read):
            if label in opened.contract.models[name] and not (path := path_of(opened, name, label)).exists():
                yield self._no_weights(opened, path, name, label)
        for keys, use in _uses(opened):
            if use.python is not None and not _is_program(opened, use.python):
                yield self._gone(opened, _program(opened, use.python), *keys, "python")
            yield from self._options(opened, keys, use)
            if use.tokenizer is not None:
                yield from self._tokenizer(opened, (*keys, "tokenizer"), opened.folder / use.tokenizer, read)

    def _tokenizer(
        self, opened: OpenContract, keys: tuple[str, ...], path: Path, read: Iterable[tuple[str, str]]
    ) -> Iterator[Finding]:
        """Whether a tokenizer that is named is there, and has the tokens of every model that is read."""
        if not path.exists():
            yield self._gone(opened, path, *keys)
            return
        remedy = "name the folder of the model's own tokenizer"
        place = ".".join(keys)
        try:
            count = token_count(path)
        except LogitproofError as error:
            yield self.finding(opened, "LP072", *keys, text=f"{place}: {path}: {error.text}", remedy=error.remedy or remedy)
            return
        if count is None:
            text = f"{place}: {path} has no tokenizer.json and is no GGUF file with a vocabulary"
            yield self.finding(opened, "LP072", *keys, text=text, remedy=remedy)
            return
        for model in dict.fromkeys(name for name, _ in sorted(read)):
            if fault := _other_tokens(opened, model, count):
                yield self.finding(opened, "LP072", *keys, text=f"{place}: {path} has {count:,} tokens, {fault}", remedy=remedy)

    def _no_weights(self, opened: OpenContract, path: Path, name: str, label: str) -> Finding:
        text = opened.contract.models[name][label]
        if hub_id(text) is None:
            return self._gone(opened, path, "models", name, label)
        place = f"models.{name}.{label}: {text} is neither a path nor in the Hugging Face cache"
        remedy = "correct it, or fetch it with `logitproof check --download`"
        return self.finding(opened, "LP070", "models", name, label, text=place, remedy=remedy)

    def _gone(self, opened: OpenContract, path: Path, *keys: str) -> Finding:
        fault = "is no program that can be run" if path.exists() else f"names nothing: it is not there{meant(path)}"
        text = f"{'.'.join(keys)}: {path} {fault}"
        return self.finding(opened, "LP070", *keys, text=text, remedy="correct the path, which is relative to the contract")

    def _options(self, opened: OpenContract, keys: tuple[str, ...], use: EngineUse) -> Iterator[Finding]:
        entry = catalog.find("engines", use.engine)
        for name, value in use.options.items():
            written = next((option.type for option in entry.options if option.name == name), "")
            if fault := option_fault(written, value, entry.file, name):
                text = f"{'.'.join(keys)}.options.{name}: {fault.partition('` ')[2]}"
                remedy = f"`logitproof list engines` shows the options of {use.engine}"
                yield self.finding(opened, "LP071", *keys, "options", name, text=text, remedy=remedy)
        for option in entry.options:
            if option.default is None and option.name not in use.options:
                text = f"{'.'.join(keys)}: the engine {use.engine} needs the option {option.name!r}"
                remedy = f"`logitproof list engines` shows the options of {use.engine}"
                yield self.finding(opened, "LP071", *keys, text=text, remedy=remedy)


def _uses(opened: OpenContract) -> Iterator[tuple[tuple[str, ...], EngineUse]]:
    contract = opened.contract
    yield ("reference",), contract.reference
    yield from ((("references", name), use) for name, use in contract.others.items())
    yield from ((("candidates", name), use) for name, use in contract.candidates.items())
    yield from ((("error_bar", "builds", name), use) for name, use in contract.error_bar.builds.items())
    if contract.witness is not None:
        yield ("witness",), contract.witness


def _other_tokens(opened: OpenContract, model: str, count: int) -> str:
    """What of a model does not go with a tokenizer of so many tokens; nothing of what cannot be read."""
    folder = config_of(opened, model)
    if folder is None:
        return ""
    try:
        own, rows = token_count(folder), vocabulary_size(folder)
    except (LogitproofError, Refusal, KeyError, TypeError, ValueError):
        return ""
    if own is not None and own != count:
        return f"that of the model {model!r} has {own:,}"
    return f"the model {model!r} gives {rows:,} logits" if count > rows else ""


def _is_program(opened: OpenContract, program: str) -> bool:
    return shutil.which(_program(opened, program)) is not None


def _program(opened: OpenContract, program: str) -> Path:
    """A program as it is looked for: by its name on the PATH, or by its path from the contract."""
    return opened.folder / program if "/" in program else Path(program)

