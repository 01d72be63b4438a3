"""An engine and its weights in one word: `ENGINE:MODEL?option=value&config=FOLDER`.

transformers:zoo/qwen3?dtype=bfloat16
llamacpp:model-Q8_0.gguf?threads=2&config=hf-folder
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.errors import ContractError
from logitproof.files.nearest import meant
from logitproof.files.yaml_text import parse_yaml
from logitproof.jobs.session import Side
from logitproof.jobs.spec import Spec


def parse_address(text: str, *, where: str = "ENGINE") -> Side:
    """The engine that `text` names; raises ContractError for an unknown engine or option and for weights that are not there."""
    engine, colon, rest = text.partition(":")
    entry = catalog.find("engines", engine, where=where)
    if not colon or not rest:
        raise ContractError(
            f"{text!r} names no weights", where=where, remedy="write ENGINE:MODEL, such as transformers:zoo/qwen3"
        )
    name, _, query = rest.partition("?")
    options = parse_options([pair for pair in query.split("&") if pair])
    config = options.pop("config", None)
    for option in options:
        if option not in entry.option_names:
            near = catalog.did_you_mean(option, entry.option_names)
            raise ContractError(f"{engine} has no option {option!r}{near}", where=where)
    for path in (name, config):
        if path and not Path(path).exists():
            raise ContractError(f"no such file or folder: {path}{meant(Path(path))}", where=where, remedy="correct the path")
    spec = Spec(engine, options, directory=str(Path.cwd()))
    return Side(spec, Path(name).resolve(), Path(config).resolve() if config else None, text)


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
