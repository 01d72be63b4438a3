"""Runs what a localization needs: taps of the reference and of every candidate, and the replay on the candidate's input.

Layer boundaries come first. Where all taps together are more than `BUDGET`, only the layers that differ by themselves are
opened, one at a time, so that a model with many layers needs no more memory than one of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.gguf.folder import folder_of
from logitproof.jobs.session import Session, Side
from logitproof.localization.hypotheses import Hypothesis, hypotheses
from logitproof.localization.localize import Localization, localize, stages
from logitproof.localization.located import Located, Locations
from logitproof.localization.tap_dump import TapDump
from logitproof.protocol import taps
from logitproof.protocol.messages import Mode, Tensor
from logitproof.protocol.precision import FROM_FINE_TO_COARSE, Precision, coarsest, stated
from logitproof.weights.model import is_gguf
from logitproof.weights.stored import stored_precision

BUDGET = 512 * 2**20
"""Bytes of taps that may lie in memory and on disk at once, for each engine."""
LONGEST = 128
"""Positions of a prompt that are looked at."""
OPENED = 4
"""Broken layers that are opened, where not all of them fit."""
Say = Callable[[str], None]
DIAGNOSE = "`logitproof diagnose RUN` needs its logits alone"


class NoTaps(ContractError):
    """An engine shows nothing of its inside, so that no operation of it can be compared."""


def localize_engines(
    reference: Side,
    candidates: Mapping[str, Side | TapDump],
    token_ids: Sequence[int],
    *,
    mode: Mode = "prefill",
    layers: Sequence[int] | None = None,
    precision: Precision | None = None,
    budget: int = BUDGET,
    explain: bool = True,
    say: Say = lambda text: None,
) -> Locations:
    """Compare every candidate's taps with the reference's on one sequence.

    A candidate without taps is a note. Raises NoTaps where the reference or every candidate has none, EngineError where one
    fails.
    """
    ids = list(token_ids)[:LONGEST]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logitproof-taps-")))
        room = _Room(scratch, ids, mode, budget, say)
        truth = _Engine(stack, "reference", reference, room)
        offered, without = _offered(stack, candidates, room)
        patterns = _patterns(truth, layers, room)
        whole = truth.read(patterns)
        _all_there(layers, whole)
        located, notes, sources = [], list(without), {"reference": whole}
        for name, candidate in offered.items():
            say(f"taps of {name}")
            candidate_taps, kind = _taps_of(candidate, patterns, precision)
            if not set(candidate_taps) & set(whole):
                notes.append(f"{name} offers none of the reference's taps (docs/taps.md names them): {DIAGNOSE}")
                continue
            where = localize(whole, candidate_taps, truth.replay(candidate_taps), precision=kind)
            sources[name] = candidate_taps
            notes += _doubts(name, candidate, where, kind, reference)
            if patterns == list(taps.BOUNDARIES):
                where, candidate_taps = _opened(truth, candidate, where, kind, room)
            hypothetical = _explained(where, kind, reference, candidate_taps, ids, say) if explain and mode == "prefill" else ()
            located.append(Located(name, kind, where, hypothetical))
        if not located:
            raise NoTaps(notes[0], where="CANDIDATE", remedy="see docs/taps.md for taps, or name the bug by its logits")
        every_stage = stages(sources, max((location.precision for location in located), key=FROM_FINE_TO_COARSE.index))
    return Locations(reference.name, tuple(ids), mode, tuple(located), tuple(every_stage), room.most, tuple(notes))


def _offered(
    stack: ExitStack, candidates: Mapping[str, Side | TapDump], room: _Room
) -> tuple[dict[str, _Engine | TapDump], list[str]]:
    """The candidates that have taps, and a line for each that has none: it ends nothing for the others."""
    offered: dict[str, _Engine | TapDump] = {}
    without: list[str] = []
    for name, candidate in candidates.items():
        try:
            offered[name] = candidate if isinstance(candidate, TapDump) else _Engine(stack, name, candidate, room)
        except NoTaps as error:
            without.append(f"{name} {error.text}: {DIAGNOSE}")
    if not offered:
        raise NoTaps(without[0], where="CANDIDATE", remedy="use an engine that offers taps, or a folder with a taps.yaml")
    return offered, without


def _all_there(layers: Sequence[int] | None, whole: Mapping[str, np.ndarray]) -> None:
    """Refuses layers that the model has not got: nothing of them would be compared."""
    there = {taps.split(name)[0] for name in whole}
    lost = [layer for layer in layers or () if layer not in there]
    if lost:
        text = f"the reference has no layer {', '.join(map(str, lost))}"
        raise ContractError(text, where="--layers", remedy="count from 0, and name layers that the model has")


def _doubts(name: str, candidate: _Engine | TapDump, where: Localization, precision: Precision, reference: Side) -> list[str]:
    """What makes the question itself doubtful: another model, or weights that only one side has quantized."""
    reshaped = [row.tap for row in where.rows if not np.isfinite(row.accumulated) and row.isolated is None]
    doubts = []
    if len(reshaped) > 1:
        doubts.append(f"{name}: {len(reshaped)} tensors have other shapes than the reference's: is it the same model?")
    quantized = isinstance(candidate, _Engine) and precision == "quantized" and not is_gguf(reference.model)
    if quantized and where.verdict == "located":
        doubts.append(
            f"{name} computes with quantized weights, the reference with the original ones, so matrices differ by what "
            "quantization took: name the same file as the reference (transformers:FILE.gguf?config=FOLDER)"
        )
    return doubts


def _opened(
    truth: _Engine, candidate: _Engine | TapDump, coarse: Localization, precision: Precision, room: _Room
) -> tuple[Localization, dict[str, np.ndarray]]:
    """The first layers that are wrong as a whole, looked into one after another; their rows take the boundaries' place."""
    rows = {row.tap: row for row in coarse.rows}
    kept: dict[str, np.ndarray] = {}
    broken = [layer for tap in coarse.broken if (layer := taps.split(tap)[0]) is not None]
    for layer in list(dict.fromkeys(broken))[:OPENED]:
        room.say(f"looking into layer {layer}")
        before = "embedding" if layer == 0 else f"layers.{layer - 1}.out"
        patterns = [before, *taps.of_layers([layer])]
        whole = truth.read(patterns)
        candidate_taps, _ = _taps_of(candidate, patterns, precision)
        inside = localize(whole, candidate_taps, truth.replay(candidate_taps), precision=precision)
        rows |= {row.tap: row for row in inside.rows if row.tap != before}
        kept |= {name: np.array(value) for name, value in candidate_taps.items()}
    ordered = tuple(sorted(rows.values(), key=lambda row: taps.order(row.tap)))
    return replace(coarse, rows=ordered), kept


def _explained(
    where: Localization,
    precision: Precision,
    reference: Side,
    candidate_taps: Mapping[str, np.ndarray],
    ids: list[int],
    say: Say,
) -> tuple[Hypothesis, ...]:
    """Known bugs, tried on the first operations that are wrong, with the input that they had."""
    broken = [tap for tap in where.broken if tap in candidate_taps][:OPENED]
    folder = reference.model.is_dir()
    model = reference.model if folder else reference.config or _made_of(reference.model)
    if not broken or model is None or where.verdict != "located":
        return ()
    say(f"{len(where.broken)} operations differ: trying known bugs on the input that they had")
    return tuple(hypotheses(model, ids, candidate_taps, broken, precision, weights=None if folder else reference.model))


def _made_of(file: Path) -> Path | None:
    """The folder that is made of a GGUF file's metadata; None where nothing can be."""
    try:
        return folder_of(file) if is_gguf(file) else None
    except ModelError:
        return None


def _taps_of(
    candidate: _Engine | TapDump, patterns: Sequence[str], asked: Precision | None
) -> tuple[dict[str, np.ndarray], Precision]:
    if isinstance(candidate, TapDump):
        return candidate.taps, asked or candidate.precision
    return candidate.read(patterns), asked or candidate.precision()


def _patterns(truth: _Engine, layers: Sequence[int] | None, room: _Room) -> list[str]:
    """Everything, or what fits: the boundaries, and the taps of the layers that were asked for."""
    if layers is not None:
        before = sorted({number - 1 for number in layers if number > 0})
        return [*taps.of_layers(layers), "embedding", "norm", "logits", *(f"layers.{number}.out" for number in before)]
    boundary = truth.read(taps.BOUNDARIES)
    count = sum(taps.split(name)[0] is not None for name in boundary)
    width = boundary["embedding"].shape[-1] if "embedding" in boundary else 1
    layer_bytes = 4 * len(room.ids) * (40 * width + 2 * len(room.ids) * max(width // 32, 1))
    if count * layer_bytes <= room.budget:
        return ["*"]
    room.say(f"{count} layers of {layer_bytes:,} bytes pass the budget of {room.budget:,}: the boundaries first")
    return list(taps.BOUNDARIES)


@dataclass
class _Room:
    """Where taps lie, for which tokens, and how much of them there was at most."""

    scratch: Path
    ids: list[int]
    mode: Mode
    budget: int
    say: Say
    most: int = 0
    count: int = 0

    def folder(self) -> Path:
        """A fresh folder for one answer."""
        self.count += 1
        made = self.scratch / str(self.count)
        made.mkdir()
        return made


class _Engine:
    """One running engine with its model, asked for taps."""

    def __init__(self, stack: ExitStack, name: str, side: Side, room: _Room) -> None:
        self._room, self._side = room, side
        session = stack.enter_context(Session(side.spec, name))
        if not session.hello().taps:
            remedy = "use transformers or llamacpp, an engine whose hello offers taps, or a folder with a taps.yaml"
            raise NoTaps("offers no taps", where=side.name, remedy=remedy)
        self._worker, self._loaded = session.loaded(side.model, side.config)
        self.tensors: dict[str, Tensor] = {}

    def read(self, patterns: Sequence[str]) -> dict[str, np.ndarray]:
        """The taps that the patterns name."""
        self.tensors = self._worker.taps(self._room.ids, self._room.mode, patterns, self._room.folder())
        self._room.most = max(self._room.most, sum(Path(tensor.path).stat().st_size for tensor in self.tensors.values()))
        return {name: tensor.open() for name, tensor in self.tensors.items()}

    def replay(self, candidate_taps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """What this engine's operations make of the candidate's taps; None where it cannot be given any."""
        given = self._room.folder()
        tensors = {}
        for name, value in candidate_taps.items():
            path = given / f"{name}.bin"
            np.ascontiguousarray(value, "<f4").tofile(path)
            tensors[name] = Tensor(path=str(path), dtype="float32", shape=value.shape)
        try:
            made = self._worker.taps(self._room.ids, self._room.mode, list(candidate_taps), self._room.folder(), tensors)
        except ContractError:
            return None
        arrays = {name: np.array(tensor.open()) for name, tensor in made.items()}
        shutil.rmtree(given)
        return arrays

    def precision(self) -> Precision:
        """The coarsest arithmetic that the engine says it uses; ggml rounds activations to the type of the weights."""
        known = stated(self._loaded.details)
        if not self._loaded.details.get("dtype") and is_gguf(self._side.model):
            known.append(stored_precision(self._side.model))
        return coarsest(known)
