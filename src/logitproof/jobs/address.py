"""An engine and its weights in one word: `ENGINE:MODEL?option=value&config=FOLDER`.

transformers:zoo/qwen3?dtype=bfloat16
llamacpp:model-Q8_0.gguf?threads=2&config=hf-folder
llamacpp:org/name@revision:model-Q8_0.gguf
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.errors import ContractError, did_you_mean
from logitproof.files.nearest import meant
from logitproof.files.yaml_text import parse_yaml
from logitproof.jobs.spec import Side, Spec
from logitproof.weights.hub import absolute, commit_of, located
from logitproof.weights.hub_id import at_commit


def parse_address(text: str, *, where: str = "ENGINE") -> Side:
    """The engine that `text` names; raises ContractError for an unknown engine or option and for weights that are not there."""
    engine, colon, rest = text.partition(":")
    if engine not in catalog.entries("engines") and (model := Path(text.partition("?")[0])).exists():
        known = "transformers" if model.is_dir() else "llamacpp"
        remedy = f"write ENGINE:MODEL, such as {known}:{text}; `logitproof list engines` shows what there is"
        raise ContractError(f"{model} is there, and no engine is named before it", where=where, remedy=remedy)
    entry = catalog.find("engines", engine, where=where)
    if not colon or not rest:
        raise ContractError(
            f"{text!r} names no weights", where=where, remedy="write ENGINE:MODEL, such as transformers:zoo/qwen3"
        )
    name, sign, query = rest.partition("?")
    options = parse_options([pair for pair in query.split("&") if pair])
    config = options.pop("config", None)
    for option in options:
        if option not in entry.option_names:
            near = did_you_mean(option, entry.option_names)
            raise ContractError(f"{engine} has no option {option!r}{near}", where=where)
    weights, folder = (_weights(path, where) if path else None for path in (name, config))
    assert weights is not None
    spec = Spec(engine, options, directory=str(Path.cwd()))
    pinned = f"{engine}:{at_commit(name, commit_of(weights))}{sign}{query}"
    return Side(spec, weights, folder, pinned if commit_of(weights) else text)


def _weights(text: str, where: str) -> Path:
    path = located(text, where=where)
    if not path.exists():
        raise ContractError(f"no such file or folder: {text}{meant(path)}", where=where, remedy="correct the path")
    return absolute(path)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """`name=value` pairs, each value read as YAML; raises ContractError for one without `=`."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ContractError(f"{pair!r} is not NAME=VALUE", where="--option")
        try:
            options[name] = parse_yaml(value, Path("--option"))[0]
        except ContractError as error:
            raise ContractError(f"the value of {name!r} is {error.text}", where="--option", remedy=error.remedy) from None
    return options
