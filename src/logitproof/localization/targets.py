"""What a localization is asked for: engines by their addresses, folders of taps, or the WRONG cells of a run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError
from logitproof.jobs.address import parse_address
from logitproof.jobs.cut import ids_of
from logitproof.jobs.session import Session
from logitproof.jobs.sides import path_of, reference_side, sides
from logitproof.jobs.spec import Side
from logitproof.localization.engines import Asked, localize_engines
from logitproof.localization.located import Locations
from logitproof.localization.tap_dump import NAME, TapDump, open_tap_dump
from logitproof.localization.tapped import NoTaps
from logitproof.localization.text import KIND, of_cells
from logitproof.protocol.messages import Mode
from logitproof.report.report import Report
from logitproof.runs.place import run_of
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import Trace
from logitproof.verdict.compared import known_distance
from logitproof.weights.hub import named
from logitproof.weights.model import is_gguf
from logitproof.weights.stored import is_quantized


@dataclass(frozen=True)
class Fed:
    """What engines that are named are fed: ids separated by commas or a text, and how many tokens the reference adds."""

    tokens: str | None = None
    text: str | None = None
    new_tokens: int = 0


def localize_named(
    addresses: Sequence[str],
    *,
    fed: Fed,
    mode: Mode,
    asked: Asked,
    say: Callable[[str], None],
) -> Locations:
    """The engines that the addresses name; the first is the reference."""
    reference = parse_address(addresses[0], where="REFERENCE")
    candidates: dict[str, Side | TapDump] = {}
    for address in addresses[1:]:
        name = address if address not in candidates else f"{address} ({len(candidates)})"
        candidates[name] = (
            open_tap_dump(Path(address)) if (Path(address) / NAME).is_file() else parse_address(address, where="CANDIDATE")
        )
    ids, start = _ids(reference, candidates, fed)
    return replace(localize_engines(reference, candidates, ids, mode=mode, asked=asked, say=say), generated_from=start)


def localize_run(
    what: Path,
    *,
    cell: str | None,
    prompt: str | None,
    asked: Asked,
    say: Callable[[str], None],
) -> dict[str, Locations]:
    """Every WRONG cell of a run, or the one that is named, on its worst prompt or the one that is named."""
    folder = run_of(what)
    space = Workspace(folder)
    report = space.judge_again()
    chosen = _cells(report, cell)
    locations: dict[str, Locations] = {}
    without: list[NoTaps] = []
    for cell_id in chosen:
        say(f"looking into {cell_id}")
        try:
            locations[cell_id] = _cell(report, cell_id, prompt, asked, say)
        except NoTaps as error:
            without.append(error)
            say(f"{cell_id}: {error.text}")
    if without and not locations:
        raise without[0]
    if locations:
        space.keep(report, KIND, of_cells(locations))
    return locations


def _cells(report: Report, wanted: str | None) -> list[str]:
    modes = ("prefill", "decode")
    every = {cell.cell.id: cell for cell in report.verdict.cells if cell.cell.mode in modes}
    if wanted is None:
        return [name for name, cell in every.items() if cell.status == "WRONG"]
    if wanted not in every:
        raise ContractError(f"no cell is called {wanted!r}", where="--cell", remedy=f"known: {', '.join(sorted(every))}")
    return [wanted]


def _cell(report: Report, name: str, prompt: str | None, asked: Asked, say: Callable[[str], None]) -> Locations:
    opened = report.opened
    cell = next(cell for cell in report.compared if cell.id == name)
    reference, candidate = sides(opened, cell)
    weights = candidate.model
    # Quantized weights are another model: what the engine does with them is asked apart from what they lost.
    by_file = reference.spec.engine == "transformers" and is_gguf(weights) and is_quantized(weights)
    if by_file:
        reference = reference_side(opened, cell.model, cell.quantization)
    reference = replace(reference, name=f"{reference.spec.engine}:{named(reference.model)}")
    mode: Mode = "decode" if cell.mode == "decode" else "prefill"
    trace = _trace(report, name, prompt)
    locations = localize_engines(
        _without_attention_kernels(reference),
        {cell.candidate: replace(candidate, name=cell.candidate)},
        trace.token_ids,
        mode=mode,
        asked=asked,
        say=say,
    )
    locations = replace(locations, generated_from=trace.prompt_length)
    if (
        by_file
        and weights != path_of(opened, cell.model)
        and all(located.localization.verdict == "same" for located in locations.located)
    ):
        text = (
            f"{cell.candidate} computes what {weights.name} says: what is wrong is in the file, or is what quantization takes"
        )
        return replace(locations, notes=(*locations.notes, text))
    return locations


def _without_attention_kernels(side: Side) -> Side:
    """transformers shows the inside of attention only where it is eager."""
    if side.spec.engine != "transformers" or side.spec.options.get("attention", "eager") == "eager":
        return side
    return replace(side, spec=replace(side.spec, options={**side.spec.options, "attention": "eager"}))


def _trace(report: Report, name: str, prompt: str | None) -> Trace:
    cell = next(cell for cell in report.compared if cell.id == name)
    rows = [row for row in report.compared[cell] if row.comparison is not None]
    if prompt is not None:
        rows = [row for row in rows if row.pair.prompt.id == prompt]
    if not rows:
        raise ContractError(f"{name} has no compared prompt{f' {prompt!r}' if prompt else ''}", where="--prompt")
    rows.sort(key=known_distance, reverse=True)
    trace = report.results[rows[0].pair.candidate]
    if not isinstance(trace, Trace):
        raise ContractError("its trace is not there", where=name, remedy="run `logitproof check` again")
    return trace


def _ids(reference: Side, candidates: dict[str, Any], fed: Fed) -> tuple[list[int], int | None]:
    """What is fed, and the first position of it that the reference generated."""
    dumps = [candidate for candidate in candidates.values() if isinstance(candidate, TapDump)]
    if dumps:
        if fed != Fed() or any(dump.token_ids != dumps[0].token_ids for dump in dumps):
            text = "a folder of taps says its own token ids"
            raise ContractError(text, where="--tokens", remedy="leave --tokens, --text and --new-tokens out")
        return dumps[0].token_ids, None
    if fed.tokens is None and fed.text is None:
        raise ContractError("nothing to feed", where="--text", remedy="give --text or --tokens")
    ids = None if fed.tokens is None else _numbers(fed.tokens)
    if ids is not None and not fed.new_tokens:
        return ids, None
    with Session(reference.spec, "reference") as session:
        worker, _ = session.loaded(reference.model, reference.config)
        ids = ids_of(fed.text or "", reference.spec, worker) if ids is None else ids
        if not ids:
            raise ContractError("has no tokens", where="--text")
        if not fed.new_tokens:
            return ids, None
        with tempfile.TemporaryDirectory(prefix="logitproof-taps-") as scratch:
            generated = worker.generate(ids, fed.new_tokens, (), Path(scratch) / "logits.bin").token_ids
    return [*ids, *generated], len(ids)


def _numbers(tokens: str) -> list[int]:
    try:
        return [int(number) for number in tokens.split(",")]
    except ValueError:
        raise ContractError(f"{tokens!r} is no list of numbers", where="--tokens") from None


def layers_of(text: str | None) -> tuple[int, ...] | None:
    """`0-3,7` as numbers."""
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ContractError(f"{part!r} is no layer and no range", where="--layers", remedy="write 0-3,7")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(sorted(set(numbers)))
