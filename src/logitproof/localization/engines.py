"""Runs what a localization needs: taps of the reference and of every candidate, and the replay on the candidate's input.

Layer boundaries come first. Where all taps together are more than `BUDGET`, only the layers that differ by themselves are
opened, one at a time, so that a model with many layers needs no more memory than one of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.gguf.folder import folder_of
from logitproof.jobs.spec import Side
from logitproof.localization.hypotheses import Hypothesis, hypotheses
from logitproof.localization.localize import Localization, localize, relative, stages
from logitproof.localization.located import Located, Locations
from logitproof.localization.patching import BROKEN, Sides, expanded, patched
from logitproof.localization.tap_dump import TapDump
from logitproof.localization.tapped import NoTaps, Room, Say, Tapped
from logitproof.protocol import taps
from logitproof.protocol.messages import Mode
from logitproof.protocol.precision import FROM_FINE_TO_COARSE, Precision
from logitproof.weights.model import is_gguf

BUDGET = 512 * 2**20
"""Bytes of taps that may lie in memory and on disk at once, for each engine."""
LONGEST = 128
"""Positions of a prompt that are looked at."""
OPENED = 4
"""Broken layers that are opened, where not all of them fit."""
DIAGNOSE = "`logitproof diagnose RUN` needs its logits alone"


@dataclass(frozen=True)
class Asked:
    """What a localization is to do beside comparing taps.

    `patch` are patterns of taps whose activations are put into the reference, `broken` for those that were found wrong.
    With `replay_experts` the reference is run with the experts that the candidate chose.
    """

    layers: tuple[int, ...] | None = None
    precision: Precision | None = None
    patch: tuple[str, ...] = ()
    replay_experts: bool = False
    explain: bool = True
    budget: int = BUDGET


def localize_engines(
    reference: Side,
    candidates: Mapping[str, Side | TapDump],
    token_ids: Sequence[int],
    *,
    mode: Mode = "prefill",
    asked: Asked = Asked(),
    say: Say = lambda text: None,
) -> Locations:
    """Compare every candidate's taps with the reference's on one sequence.

    A candidate without taps is a note. Raises NoTaps where the reference or every candidate has none, EngineError where one
    fails.
    """
    ids = list(token_ids)[:LONGEST]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="logitproof-taps-")))
        room = Room(scratch, ids, mode, asked.budget, say)
        truth = Tapped(stack, "reference", reference, room)
        offered, without = _offered(stack, candidates, room)
        patterns = _patterns(truth, asked.layers, room)
        whole = truth.read([*patterns, *expanded(asked.patch)])
        _all_there(asked.layers, whole)
        located, notes, sources = [], list(without), {"reference": whole}
        for name, candidate in offered.items():
            say(f"taps of {name}")
            compared = _Compared(truth, reference, whole, patterns, asked, room, len(offered) > 1)
            given = compared.taps_of(candidate)
            if not set(given[0]) & set(whole):
                notes.append(f"{name} offers none of the reference's taps (docs/taps.md names them): {DIAGNOSE}")
                continue
            sources[name] = given[0]
            location, doubts = compared.located(name, candidate, *given)
            located.append(location)
            notes += doubts
        if not located:
            raise NoTaps(notes[0], where="CANDIDATE", remedy="see docs/taps.md for taps, or name the bug by its logits")
        every_stage = stages(sources, max((location.precision for location in located), key=FROM_FINE_TO_COARSE.index))
    return Locations(reference.name, tuple(ids), mode, tuple(located), tuple(every_stage), room.most, tuple(notes))


@dataclass(frozen=True)
class _Compared:
    """The reference with its taps, that candidate after candidate is compared with; what `several` lack ends nothing."""

    truth: Tapped
    reference: Side
    whole: Mapping[str, np.ndarray]
    patterns: Sequence[str]
    asked: Asked
    room: Room
    several: bool

    def taps_of(self, candidate: Tapped | TapDump) -> tuple[dict[str, np.ndarray], Precision]:
        """The candidate's taps and its coarsest arithmetic."""
        return _taps_of(candidate, [*self.patterns, *expanded(self.asked.patch)], self.asked.precision)

    def located(
        self, name: str, candidate: Tapped | TapDump, candidate_taps: dict[str, np.ndarray], kind: Precision
    ) -> tuple[Located, list[str]]:
        """What is wrong of this candidate, and notes on what makes the question doubtful."""
        whole, notes, chosen = self.whole, [], {}
        if self.asked.replay_experts:
            chosen = {tap: value for tap, value in candidate_taps.items() if taps.split(tap)[1] == "moe.index"}
            whole, note = self._with_experts(name, chosen, candidate_taps)
            chosen = chosen if whole is not self.whole else {}
            notes.append(note)
        own, stepped = self.truth.replay(candidate_taps), self.room.mode == "decode"
        where = localize(whole, candidate_taps, own, precision=kind, stepped=stepped)
        notes += _doubts(name, candidate, where, kind, self.reference)
        every_tap = candidate_taps
        if self.patterns == list(taps.BOUNDARIES):
            where, candidate_taps = _opened(self.truth, candidate, where, kind, self.room)
        explain, ids = self.asked.explain and self.room.mode == "prefill", self.room.ids
        piece = candidate.piece if isinstance(candidate, Tapped) else 0
        bugs = _explained(where, self.reference, candidate_taps, (ids, piece), self.room.say) if explain else ()
        sides = Sides(whole, {**every_tap, **candidate_taps}, chosen)
        try:
            put_in = [*patched(self.truth, candidate, sides, self.asked.patch, where.broken, kind)]
        except ContractError as error:
            if not self.several:
                raise
            put_in, notes = [], [*notes, f"{name}: nothing was put in: {error.text}"]
        if BROKEN in self.asked.patch and not where.broken:
            notes.append(f"{name}: no operation was found wrong, so that `--patch {BROKEN}` puts nothing in")
        return Located(name, kind, where, bugs, tuple(put_in)), notes

    def _with_experts(
        self, name: str, chosen: Mapping[str, np.ndarray], candidate_taps: Mapping[str, np.ndarray]
    ) -> tuple[Mapping[str, np.ndarray], str]:
        """The reference's taps with the experts that the candidate chose, and how many it would have chosen otherwise."""
        alike = [tap for tap, value in chosen.items() if tap in self.whole and value.size == self.whole[tap].size]
        if len(alike) < len(chosen) or not chosen:
            why = "shows no choice of experts" if not chosen else "chooses another number of experts than the reference"
            return self.whole, f"{name} {why}, so that its choices were not replayed"
        whole = self.truth.replay(chosen, [*self.patterns, *expanded(self.asked.patch)])
        if whole is None:
            text = "the reference cannot be told which experts to choose"
            raise ContractError(text, where="--replay-experts", remedy="leave it out, or use transformers as the reference")
        return whole, _choices_differ(name, chosen, self.whole, whole, candidate_taps)


def _choices_differ(
    name: str,
    chosen: Mapping[str, np.ndarray],
    plain: Mapping[str, np.ndarray],
    replayed: Mapping[str, np.ndarray],
    candidate_taps: Mapping[str, np.ndarray],
) -> str:
    """How many choices of experts differ, and how far the logits are apart with them and without."""
    pairs = [(value, plain[tap]) for tap, value in chosen.items() if tap in plain and plain[tap].size == value.size]
    differing = sum(int((value.reshape(right.shape) != right).any(-1).sum()) for value, right in pairs)
    every = sum(len(right) for _, right in pairs)
    text = f"{name} chooses other experts than the reference at {differing} of {every} places"
    logits = candidate_taps.get("logits")
    if logits is None or any(side["logits"].size != logits.size for side in (plain, replayed)):
        return text
    before, after = (relative(logits, side["logits"], "logits") for side in (plain, replayed))
    return f"{text}; with its choices replayed the logits are {after:.2g} apart, {before:.2g} without"


def _offered(
    stack: ExitStack, candidates: Mapping[str, Side | TapDump], room: Room
) -> tuple[dict[str, Tapped | TapDump], list[str]]:
    """The candidates that have taps, and a line for each that has none: it ends nothing for the others."""
    offered: dict[str, Tapped | TapDump] = {}
    without: list[str] = []
    for name, candidate in candidates.items():
        try:
            offered[name] = candidate if isinstance(candidate, TapDump) else Tapped(stack, name, candidate, room)
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


def _doubts(name: str, candidate: Tapped | TapDump, where: Localization, precision: Precision, reference: Side) -> list[str]:
    """What makes the question itself doubtful: another model, or weights that only one side has quantized."""
    reshaped = [row.tap for row in where.rows if not np.isfinite(row.accumulated) and row.isolated is None]
    doubts = []
    if len(reshaped) > 1:
        doubts.append(f"{name}: {len(reshaped)} tensors have other shapes than the reference's: is it the same model?")
    quantized = isinstance(candidate, Tapped) and precision == "quantized" and not is_gguf(reference.model)
    if quantized and where.verdict == "located":
        doubts.append(
            f"{name} computes with quantized weights, the reference with the original ones, so matrices differ by what "
            "quantization took: name the same file as the reference (transformers:FILE.gguf?config=FOLDER)"
        )
    return doubts


def _opened(
    truth: Tapped, candidate: Tapped | TapDump, coarse: Localization, precision: Precision, room: Room
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
        own, stepped = truth.replay(candidate_taps), room.mode == "decode"
        inside = localize(whole, candidate_taps, own, precision=precision, stepped=stepped)
        rows |= {row.tap: row for row in inside.rows if row.tap != before}
        kept |= {name: np.array(value) for name, value in candidate_taps.items()}
    ordered = tuple(sorted(rows.values(), key=lambda row: taps.order(row.tap)))
    return replace(coarse, rows=ordered), kept


def _explained(
    where: Localization, reference: Side, candidate_taps: Mapping[str, np.ndarray], passed: tuple[list[int], int], say: Say
) -> tuple[Hypothesis, ...]:
    """Known bugs, tried on the first operations that are wrong, with the input that they had.

    `passed` are the tokens, and how many of them the candidate takes at a time.
    """
    broken = [tap for tap in where.broken if tap in candidate_taps][:OPENED]
    folder = reference.model.is_dir()
    model = reference.model if folder else reference.config or _made_of(reference.model)
    if not broken or model is None or where.verdict != "located":
        return ()
    say(f"{len(where.broken)} operations differ: trying known bugs on the input that they had")
    given, weights = (candidate_taps, broken, where.precision), None if folder else reference.model
    return tuple(hypotheses(model, passed[0], *given, weights=weights, piece=passed[1]))


def _made_of(file: Path) -> Path | None:
    """The folder that is made of a GGUF file's metadata; None where nothing can be."""
    try:
        return folder_of(file) if is_gguf(file) else None
    except ModelError:
        return None


def _taps_of(
    candidate: Tapped | TapDump, patterns: Sequence[str], asked: Precision | None
) -> tuple[dict[str, np.ndarray], Precision]:
    if isinstance(candidate, TapDump):
        return candidate.taps, asked or candidate.precision
    return candidate.read(patterns), asked or candidate.precision()


def _patterns(truth: Tapped, layers: Sequence[int] | None, room: Room) -> list[str]:
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
