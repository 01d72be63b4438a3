"""The settings of the architecture, across config.json and GGUF metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.untrusted import read_object
from logitproof.gguf.folder import RECORD, folder_of
from logitproof.gguf.layout import Layout
from logitproof.gguf.side import Side
from logitproof.preflight import UNKNOWN_HERE, Check, Finding, Setting, Setup, short
from logitproof.preflight._keys import KNOWN, MISSING, Value, is_assumed, unknown_fields, unknown_keys, value_of

UNKNOWN = "unknown architecture"
REMEDY = "convert the model again from this config.json, or take the config.json that belongs to these weights"


class Config(Check):
    """Rope, norms, heads, widths, window, softcaps, experts and scales, as config.json and the GGUF file have them."""

    codes: ClassVar[Mapping[str, str]] = {
        "PF200": "another architecture, or a config that lacks a field or has one that GGUF cannot express",
        "PF201": "rope base",
        "PF202": "rope scaling",
        "PF203": "rotary dimensions",
        "PF204": "norm epsilon",
        "PF205": "number of heads",
        "PF206": "head size",
        "PF207": "layers and widths",
        "PF209": "sliding window",
        "PF210": "softcap",
        "PF211": "mixture of experts",
        "PF212": "context length",
        "PF213": "scale of logits, embeddings, residuals or attention",
        "PF214": "vocabulary size",
        "PF215": "another setting of this architecture",
    }

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        reference, candidate = setup.original, setup.file
        if "other" in (reference.format, candidate.format):
            yield Setting(
                "config", reference.format, candidate.format, "not compared", "only its own engine can read such a file"
            )
            return
        yield from _undescribed(setup)
        yield from _unknown(setup)
        if reference.path == candidate.path:
            yield Setting("config", reference.settings_file, candidate.settings_file, "same", "one file")
            yield from _assumptions(reference)
            return
        if (
            isinstance(reference.layout if reference.format == "safetensors" else None, Layout)
            or reference.format == candidate.format
        ):
            named = Value(reference.architecture), Value(candidate.architecture)
            yield from _row("PF200", "architecture", named, setup, "general.architecture")
        known = [key for key in KNOWN if key in reference.keys or key in candidate.keys]
        untold = unknown_keys(reference, candidate) + unknown_keys(candidate, reference)
        for key in [*known, *sorted((reference.keys.keys() | candidate.keys.keys()) - KNOWN.keys() - set(untold))]:
            yield from _compare(key, setup)


def _assumptions(side: Side) -> Iterator[Setting]:
    """What is assumed of a GGUF file that is all there is of a model."""
    if side.format != "gguf":
        return
    try:
        record = read_object(folder_of(side.path) / RECORD, kind=ModelError)
    except ModelError as error:
        yield Setting("reference of the file", side.architecture, side.architecture, "not compared", error.text)
        return
    for entry in record["assumed"]:
        value = short(entry["value"])
        yield Setting(entry["key"], value, value, "listed", f"assumed: {entry['rule']}")
    for key in record["unread"]:
        value = short(side.keys.get(key))
        yield Setting(key, value, value, "not compared", "a key that the reference makes nothing of")


def _undescribed(setup: Setup) -> Iterator[Finding | Setting]:
    """Why a folder has no layout: its family is not known, it lacks a field, or GGUF has no word for a setting."""
    reference, candidate = setup.original, setup.file
    if reference.format != "safetensors" or isinstance(reference.layout, Layout):
        return
    error: ContractError = reference.layout
    if error.text.startswith(UNKNOWN) or (candidate.format != "gguf" and not isinstance(error, ModelError)):
        yield Setting("config", error.text, "–", "not compared", "the layouts of known families are")
    else:
        yield Finding("PF200", "config", error.text, "–", reference.settings_file, "", error.remedy)


def _compare(key: str, setup: Setup) -> Iterator[Setting | Finding]:
    code, name, field = KNOWN.get(key, ("PF215", key, key))
    sides = setup.original, setup.file
    reference, candidate = (value_of(key, side) for side in sides)
    assumed = [side.path.name for side in sides if is_assumed(key, side)]
    if (reference.is_missing or candidate.is_missing) and not _is_demanded(key, setup):
        yield Setting(name, _shown(reference), _shown(candidate), "not compared", "one side does not say")
        return
    where = setup.file.field_of(key) if setup.file.format == "gguf" else field
    note = f"assumed for {', '.join(assumed)}, as llama.cpp's loader has it" if assumed else ""
    yield from _row(code, name, (reference, candidate), setup, where, note)


def _unknown(setup: Setup) -> Iterator[Setting | Finding]:
    """What a file says in the names that change logits and nothing here knows; told, and compared where both are folders."""
    reference, candidate = setup.original, setup.file
    for side, opposite in ((reference, candidate), (candidate, reference))[: 1 if reference.path == candidate.path else 2]:
        for key in unknown_keys(side, opposite):
            yield _listed(f"{side.path.name}: {side.field_of(key)}", side.keys[key], is_reference=side is reference)
    fields, others = unknown_fields(reference), unknown_fields(candidate) if reference.path != candidate.path else {}
    if reference.path != candidate.path and reference.format == candidate.format == "safetensors":
        for name in sorted(fields.keys() | others.keys()):
            yield from _row("PF215", name, (_held(reference, name), _held(candidate, name)), setup, name)
        return
    for side, held in ((reference, fields), (candidate, others)):
        for name, value in sorted(held.items()):
            yield _listed(f"{side.settings_file}: {name}", value, is_reference=side is reference)


def _listed(name: str, value: Any, *, is_reference: bool) -> Setting:
    shown = (short(value), "–") if is_reference else ("–", short(value))
    return Setting(name, *shown, "not compared", UNKNOWN_HERE)


def _held(side: Side, name: str) -> Value:
    value: Any = side.config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return Value(MISSING if value is None else value, is_said=value is not None)


def _shown(value: Value) -> str:
    """What a table shows: a default is never shown as if a file had said it."""
    return short(value.value) if value.is_said or value.is_missing else f"{short(value.value)} (not said)"


def _row(
    code: str, name: str, values: tuple[Value, Value], setup: Setup, field: str, note: str = ""
) -> Iterator[Setting | Finding]:
    same = _equal(*(value.value for value in values))
    reference, candidate = map(_shown, values)
    yield Setting(name, reference, candidate, "same" if same else "differs", note)
    if not same:
        yield Finding(code, name, reference, candidate, setup.file.settings_file, field, REMEDY)


def _is_demanded(key: str, setup: Setup) -> bool:
    """What the layout of a known family writes must be there; other keys may be one converter's own."""
    layout = setup.original.layout if setup.original.format == "safetensors" else None
    return isinstance(layout, Layout) and key in layout.keys


def _equal(reference: Any, candidate: Any) -> bool:
    """Equal as a float32 file can hold them; one number stands for a list of the same."""
    if isinstance(reference, list) != isinstance(candidate, list):
        entries, number = (reference, candidate) if isinstance(reference, list) else (candidate, reference)
        return all(_equal(entry, number) for entry in entries)
    if isinstance(reference, int | float) and isinstance(candidate, int | float):
        return bool(np.float32(reference) == np.float32(candidate))
    return bool(reference == candidate)
