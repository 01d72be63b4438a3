"""Pins: what a contract's files, engines and machine were, by hash and version, and whether they still are."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
import yaml
from pydantic import BaseModel, Field

from logitproof.contract.opened import OpenContract
from logitproof.contract.typed import STRICT, Count
from logitproof.errors import ContractError
from logitproof.files.atomic import write_atomically
from logitproof.files.forms import COMMIT, SHA256
from logitproof.files.hashes import State, file_sha256, file_state
from logitproof.files.system import in_words
from logitproof.files.yaml import read_toml, read_yaml
from logitproof.jobs.job import option_files
from logitproof.jobs.specs import specs
from logitproof.protocol.messages import HelloResult
from logitproof.weights.hub import absolute, commit_of, find, located
from logitproof.weights.hub_id import at_commit
from logitproof.weights.model import Model, is_gguf, open_model

FORMAT = 1
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
GGUF_TOKENIZER = {"vocabulary": "tokenizer.ggml.tokens", "merges": "tokenizer.ggml.merges"}
Sha256 = Annotated[str, Field(pattern=SHA256)]


class _Strict(BaseModel):
    model_config = STRICT


class PinnedFile(_Strict):
    """One file; `bytes` is compared first, since a size costs nothing to read."""

    sha256: Sha256
    bytes: Count


class PinnedModel(_Strict):
    """One set of weights. `source` and `license` are kept when the pins are written again."""

    path: str
    commit: Annotated[str, Field(pattern=COMMIT)] = Field("", description="of a hub id, what it was resolved to")
    files: dict[str, PinnedFile]
    tokenizer: dict[str, Sha256] = Field({}, description="files, or the vocabulary and merges inside a GGUF")
    source: str = ""
    license: str = ""


class PinnedEngine(_Strict):
    """An engine as it introduced itself, and how it was started."""

    engine: str
    versions: dict[str, str] = Field({}, description="versions, commit and build flags, as the engine says them")
    invocation: list[str]
    files: dict[str, Sha256] = Field({}, description="files that its options name")


class Pins(_Strict):
    """A pins file."""

    pins: Literal[1]
    models: dict[str, dict[str, PinnedModel]]
    suites: dict[str, Sha256]
    fixtures: dict[str, Sha256] = Field({}, description="other files that must not change, relative to the pins file")
    engines: dict[str, PinnedEngine] = {}
    platform: dict[str, str] = Field({}, description="where it was pinned; another one is told, and is no fault")


@dataclass(frozen=True)
class Difference:
    """Something that is not what was pinned. `fault` is False for what is only worth knowing."""

    place: str
    expected: str
    found: str
    remedy: str
    fault: bool = True

    def __str__(self) -> str:
        return f"{self.place}: pinned {self.expected}, found {self.found}\n  remedy: {self.remedy}"


def make_pins(opened: OpenContract, hellos: Mapping[str, HelloResult], previous: Pins | None = None) -> Pins:
    """Pins of everything that the contract names, as it is now.

    Raises ModelError for weights that are missing or damaged. What a person wrote into `previous` (source,
    licence, fixtures) is kept.
    """
    models: dict[str, dict[str, PinnedModel]] = {}
    for name, quantization, path in _weights(opened):
        old = previous.models.get(name, {}).get(quantization) if previous else None
        where = opened.where("models", name, quantization)
        located(opened.contract.models[name][quantization], opened.folder, where=where)
        model = open_model(path, where=where)
        models.setdefault(name, {})[quantization] = _pin_model(model, opened.contract.models[name][quantization], old)
    engines = {
        name: PinnedEngine(
            engine=spec.engine,
            versions=hellos[name].versions if name in hellos else {},
            invocation=_invocation(spec.engine, spec.options),
            files={name: sha256 for name, sha256 in option_files(spec).items() if (opened.folder / name).is_file()},
        )
        for name, spec in specs(opened).items()
    }
    return Pins(
        pins=FORMAT,
        models=models,
        suites={suite.suite: suite.sha256 for suite in opened.suites},
        fixtures={name: _sha256(opened.folder / name) for name in (previous.fixtures if previous else {})},
        engines=engines,
        platform=_platform(),
    )


def default_pins(opened: OpenContract) -> Path:
    """The pins file of a contract: the one that it names, or NAME.pins.yaml beside it."""
    name = opened.path.name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".parity")
    return opened.folder / (opened.contract.pins or f"{name}.pins.yaml")


def write_pins(pins: Pins, path: Path) -> None:
    """Write TOML or YAML, by the name's ending; raises ContractError for another one."""
    data = pins.model_dump(exclude_defaults=True) | {"pins": FORMAT}
    if path.suffix == ".toml":
        write_atomically(path, tomli_w.dumps(data))
    elif path.suffix in (".yaml", ".yml"):
        write_atomically(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))
    else:
        raise ContractError(
            f"pins are not written as {path.suffix or 'a file without an ending'}", where=str(path), remedy=ENDINGS
        )


ENDINGS = "name it NAME.pins.yaml or NAME.pins.toml"


def read_pins(path: Path) -> Pins:
    """Read a pins file; raises ContractError with the place of what is wrong in it."""
    remedy = "`logitproof pin CONTRACT --out FILE` writes one"
    if path.suffix == ".toml":
        return read_toml(path, Pins, "pins", command=remedy)
    if path.suffix in (".yaml", ".yml"):
        return read_yaml(path, Pins, "pins", command=remedy)[0]
    raise ContractError("is neither YAML nor TOML by its name", where=str(path), remedy=ENDINGS)


def verify_files(pins: Pins, folder: Path, opened: OpenContract | None = None) -> list[Difference]:
    """Compare every pinned file with what is in `folder`; offline, all differences, no engine is started."""
    differences = [
        difference for models in pins.models.values() for model in models.values() for difference in _of_model(model, folder)
    ]
    for name, sha256 in pins.fixtures.items():
        differences += _of_file(folder / name, sha256, "restore the fixture, or pin it again")
    for name, engine in pins.engines.items():
        for file, sha256 in engine.files.items():
            differences += _of_file(folder / file, sha256, f"restore what engine {name} is started with, or pin it again")
    differences += _of_suites(pins, folder, opened)
    if opened is not None:
        differences += _unpinned(pins, opened)
    return [*differences, *_of_platform(pins)]


def verify_engines(pins: Pins, hellos: Mapping[str, HelloResult]) -> list[Difference]:
    """Compare what engines say of themselves with what was pinned."""
    remedy = "install the pinned version, or pin the new one in a commit of its own"
    differences = []
    for name, engine in pins.engines.items():
        if name in hellos:
            for key, version in engine.versions.items():
                now = hellos[name].versions.get(key, "nothing")
                if now != version:
                    differences.append(Difference(f"engines.{name}.versions.{key}", version, now, remedy))
    return differences


def refuse_differences(differences: list[Difference], path: Path) -> None:
    """Raise ContractError with every fault among the differences."""
    if faults := [difference for difference in differences if difference.fault]:
        raise ContractError("\n".join(str(fault) for fault in faults), where=str(path))


def _weights(opened: OpenContract) -> Iterator[tuple[str, str, Path]]:
    for name, files in opened.contract.models.items():
        for quantization, file in files.items():
            yield name, quantization, absolute(find(file, opened.folder))


def _pin_model(model: Model, path: str, old: PinnedModel | None) -> PinnedModel:
    root = model.path if model.path.is_dir() else model.path.parent
    card = _origin(model)
    return PinnedModel(
        path=path,
        commit=commit_of(model.path),
        files={name: PinnedFile(sha256=sha256, bytes=(root / name).stat().st_size) for name, sha256 in model.files.items()},
        tokenizer=_tokenizer(model),
        source=old.source if old and old.source else card.get("source", ""),
        license=old.license if old and old.license else card.get("license", ""),
    )


def _tokenizer(model: Model) -> dict[str, str]:
    if model.format == "gguf":
        return gguf_tokenizer_hashes(model.path)
    return {name: sha256 for name, sha256 in model.files.items() if name in TOKENIZER_FILES}


def gguf_tokenizer_hashes(path: Path) -> dict[str, str]:
    """sha256 of the vocabulary and of the merges of a GGUF: of the JSON array of their strings, in their order."""
    fields = _gguf_fields(path, file_state(path))
    hashes = {}
    for name, key in GGUF_TOKENIZER.items():
        if key in fields:
            text = json.dumps(fields[key], ensure_ascii=False, separators=(",", ":"))
            hashes[name] = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return hashes


@functools.lru_cache(maxsize=64)
def _gguf_fields(path: Path, state: State) -> dict[str, Any]:
    """Tokenizer, licence and source fields of a GGUF."""
    from logitproof.files.gguf import GgufFile

    reader = GgufFile(path)
    wanted = [*GGUF_TOKENIZER.values(), "general.license", "general.source.url", "general.source.huggingface.repository"]
    return {key: reader.value(key) for key in wanted if key in reader.fields}


def _origin(model: Model) -> dict[str, str]:
    """Source and licence that the weights themselves name."""
    if model.format != "gguf":
        return {}
    fields = _gguf_fields(model.path, file_state(model.path))
    source = fields.get("general.source.url") or fields.get("general.source.huggingface.repository") or ""
    return {"source": str(source), "license": str(fields.get("general.license") or "")}


def _invocation(engine: str, options: Mapping[str, Any]) -> list[str]:
    argv = options.get("argv")
    return [str(word) for word in argv] if isinstance(argv, list) else [engine, json.dumps(options, sort_keys=True)]


def _of_model(model: PinnedModel, folder: Path) -> Iterator[Difference]:
    path = absolute(find(at_commit(model.path, model.commit), folder))
    root = path if path.is_dir() else path.parent
    broken = False
    for name, pinned in model.files.items():
        differences = list(_of_file(root / name, pinned.sha256, "fetch these weights again, or pin the new ones", pinned.bytes))
        broken |= bool(differences)
        yield from differences
    if path.is_dir():
        known = set(model.files)
        for name in sorted(set(open_model(path).files) - known) if not broken else []:
            yield Difference(str(path / name), "no such file", "a file", "take it away, or pin it")
    elif not broken and is_gguf(path):
        for name, sha256 in gguf_tokenizer_hashes(path).items():
            if model.tokenizer.get(name) != sha256:
                remedy = "use the file with the pinned tokenizer, or pin the new one"
                yield Difference(f"{path}: {name}", model.tokenizer.get(name, "nothing"), sha256, remedy)


def _of_file(path: Path, sha256: str, remedy: str, size: int | None = None) -> Iterator[Difference]:
    if not path.is_file():
        yield Difference(str(path), f"sha256 {sha256}", "no such file", remedy)
    elif size is not None and path.stat().st_size != size:
        yield Difference(str(path), f"{size} bytes", f"{path.stat().st_size} bytes", remedy)
    elif (actual := _sha256(path)) != sha256:
        yield Difference(str(path), f"sha256 {sha256}", f"sha256 {actual}", remedy)


def _of_suites(pins: Pins, folder: Path, opened: OpenContract | None) -> Iterator[Difference]:
    """A suite is found by the contract's word for it, or among the shipped ones."""
    if opened is None:
        return
    now = {suite.suite: suite.sha256 for suite in opened.suites}
    for name, sha256 in pins.suites.items():
        if now.get(name) != sha256:
            yield Difference(f"suite {name}", sha256, now.get(name, "no such suite"), "restore the suite, or pin the new one")


def _unpinned(pins: Pins, opened: OpenContract) -> Iterator[Difference]:
    remedy = "`logitproof pin` again"
    for name, quantization, path in _weights(opened):
        pinned = pins.models.get(name, {}).get(quantization)
        if pinned is None:
            yield Difference(opened.where("models", name, quantization), "nothing", str(path), remedy)
        elif pinned.path != opened.contract.models[name][quantization]:
            yield Difference(opened.where("models", name, quantization), pinned.path, str(path), remedy)
        elif (commit := commit_of(path)) != pinned.commit:
            cure = f"write {at_commit(pinned.path, pinned.commit)}, or pin again" if pinned.commit else remedy
            was, here = (f"commit {word}" if word else "no commit" for word in (pinned.commit, commit))
            yield Difference(opened.where("models", name, quantization), was, here, cure)
    for suite in opened.suites:
        if suite.suite not in pins.suites:
            yield Difference(f"suite {suite.suite}", "nothing", suite.sha256, remedy)
    for name, spec in specs(opened).items():
        pinned_engine = pins.engines.get(name)
        if pinned_engine is None:
            yield Difference(f"engine {name}", "nothing", spec.engine, remedy)
        elif pinned_engine.invocation != (now := _invocation(spec.engine, spec.options)):
            yield Difference(f"engine {name}", " ".join(pinned_engine.invocation), " ".join(now), remedy)


def _of_platform(pins: Pins) -> Iterator[Difference]:
    now = _platform()
    for key, value in pins.platform.items():
        if now.get(key) != value:
            remedy = "figures of another machine differ within their bands; pin again if this is the machine of record"
            yield Difference(f"platform.{key}", value, now.get(key, "nothing"), remedy, fault=False)


def _platform() -> dict[str, str]:
    return {"machine": platform.machine(), "system": platform.system(), "python": platform.python_version()}


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise ContractError(f"cannot be read: {in_words(error)}", where=str(path)) from None
