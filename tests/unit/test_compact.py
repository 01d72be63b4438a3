"""Compact rows: every divergence of a run comes out of a third of the bytes again, and what no longer can is told."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.comparison.compare import compare
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Prompt
from logitproof.errors import ContractError
from logitproof.jobs.cell import Pair
from logitproof.runs.compact import TOLERANCE, place_of, write_compact
from logitproof.runs.kept import FOLDER
from logitproof.runs.workspace import Workspace
from logitproof.traces.compact import CompactRows, is_compact, open_compact
from logitproof.traces.fewbits import as_it_was, decode, encode
from logitproof.traces.trace import Trace, whole
from logitproof.verdict.compared import Compared

SHAPES = ("like a model", "flat", "unlike", "wide", "masked", "padded", "all alike", "certain")
KINDS = (np.float32, np.float64)


def rows_of(shape: str, count: int, vocabulary: int, kind: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows [T, V] of a reference and a candidate."""
    random = np.random.default_rng(SHAPES.index(shape))
    reference = random.standard_normal((count, vocabulary)) * 3
    if shape in ("like a model", "masked", "padded"):
        reference[:, random.integers(vocabulary, size=8)] += 12
    candidate = reference + random.standard_normal(reference.shape) * 0.05
    if shape == "flat":
        reference, candidate = reference / 10, candidate / 10
    elif shape == "unlike":
        candidate = random.standard_normal(reference.shape) * 3
    elif shape == "wide":
        reference = random.uniform(-1e4, 1e4, reference.shape)
        candidate = reference + random.standard_normal(reference.shape)
    elif shape == "masked":
        masked = random.random(vocabulary) < 0.4
        reference[:, masked] = candidate[:, masked] = -np.inf
    elif shape == "padded":
        reference[:, -7:], candidate[:, -7:] = -1e4, np.finfo(np.float32).min
    elif shape == "all alike":
        reference, candidate = np.zeros_like(reference), np.full_like(reference, 2.0)
    elif shape == "certain":
        reference[:, 5] = candidate[:, 7] = 200.0
    return reference.astype(kind), candidate.astype(kind)


def trace(key: str, rows: np.ndarray) -> Trace:
    ids = [index * 7 % rows.shape[1] for index in range(len(rows))]
    return Trace(key, "score", "toy", "prefill", ids, len(ids), rows)


def compared(reference: Trace, candidate: Trace) -> Compared:
    pair = Pair("suite", 0, Prompt(id="a", token_ids=[1]), "", reference.key, candidate.key, None)
    labels = np.array([*reference.token_ids[1:], -1])
    return Compared(pair, comparison=compare(reference.logits, candidate.logits, labels=labels))


def compacted(folder: Path, *traces: Trace) -> tuple[list[Compared], dict[str, np.ndarray]]:
    """The first trace compared with all others, and the compact rows of all."""
    rows = [compared(traces[0], candidate) for candidate in traces[1:]]
    hashes = write_compact(folder, {made.key: made for made in traces}, rows)
    return rows, {key: open_compact(place_of(folder, key), sha256) for key, sha256 in hashes.items()}


def off(folder: Path, *traces: Trace) -> float:
    """The largest change of a divergence, in nats."""
    rows, compact = compacted(folder, *traces)
    worst = 0.0
    for row in rows:
        again = compare(compact[row.pair.reference], compact[row.pair.candidate], labels=np.full(len(traces[0].logits), -1))
        assert row.comparison is not None
        before, after = row.comparison.metrics["kl_divergence"], again.metrics["kl_divergence"]
        assert np.isfinite(before).all() and np.isfinite(after).all()
        worst = max(worst, float(np.abs(before - after).max()))
    return worst


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", [2, 33, 1500, 20_000])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_divergence_is_kept_to_a_millionth(tmp_path: Path, shape: str, vocabulary: int, kind: Any) -> None:
    if shape in ("certain", "padded", "masked") and vocabulary < 10:
        vocabulary = 12
    reference, candidate = rows_of(shape, 3, vocabulary, kind)
    assert off(tmp_path, trace("r", reference), trace("c", candidate)) <= TOLERANCE


@pytest.mark.parametrize("shape", ["like a model", "masked", "wide"])
def test_the_largest_vocabularies_are_no_exception(tmp_path: Path, shape: str) -> None:
    reference, candidate = rows_of(shape, 1, 262_144, np.float32)
    assert off(tmp_path, trace("r", reference), trace("c", candidate)) <= TOLERANCE


def test_one_reference_of_many_candidates_serves_them_all(tmp_path: Path) -> None:
    reference, first = rows_of("like a model", 2, 20_000, np.float32)
    others = [first, rows_of("unlike", 2, 20_000, np.float32)[1], reference + np.float32(0.3) * first]
    traces = [trace(f"c{number}", rows) for number, rows in enumerate(others)]
    assert off(tmp_path, trace("r", reference), *traces) <= TOLERANCE


@pytest.mark.parametrize("shape", ["like a model", "masked", "padded", "flat"])
def test_rows_take_a_third_of_their_bytes(tmp_path: Path, shape: str) -> None:
    reference, candidate = rows_of(shape, 4, 50_000, np.float32)
    _, compact = compacted(tmp_path, trace("r", reference), trace("c", candidate))
    stored = sum(rows.stored_bytes for rows in compact.values() if isinstance(rows, CompactRows))
    assert stored <= 0.35 * (reference.nbytes + candidate.nbytes)


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_the_best_tokens_and_the_label_are_as_they_were(tmp_path: Path, shape: str) -> None:
    reference, candidate = rows_of(shape, 3, 5000, np.float32)
    made = trace("r", reference), trace("c", candidate)
    rows, compact = compacted(tmp_path, *made)
    labels = [*made[0].token_ids[1:], -1]
    again = compare(compact["r"], compact["c"], labels=labels)
    assert rows[0].comparison is not None
    for name in ("top1", "margin", "top10_overlap"):
        np.testing.assert_array_equal(rows[0].comparison.metrics[name], again.metrics[name])
    for original, key in ((reference, "r"), (candidate, "c")):
        back = np.asarray(compact[key])
        np.testing.assert_array_equal(np.isneginf(original), np.isneginf(back))
        assert all(back[at, label] == original[at, label] for at, label in enumerate(labels) if label >= 0)


def test_rows_that_are_no_logits_stay_as_they_were(tmp_path: Path) -> None:
    rows = np.zeros((4, 40), np.float32)
    rows[0, 3], rows[1, 3], rows[2, :], rows[3, 3] = np.nan, np.inf, -np.inf, 1.0
    hashes = write_compact(tmp_path, {"r": trace("r", rows)}, [])
    np.testing.assert_array_equal(np.asarray(open_compact(place_of(tmp_path, "r"), hashes["r"])), rows)


def test_compact_rows_answer_as_an_array_does(tmp_path: Path) -> None:
    reference, candidate = rows_of("like a model", 5, 300, np.float64)
    _, compact = compacted(tmp_path, trace("r", reference), trace("c", candidate))
    rows, plain = compact["r"], np.asarray(compact["r"])
    assert (rows.shape, rows.ndim, rows.dtype, len(rows)) == (plain.shape, 2, plain.dtype, 5)
    for asked in (2, -1, slice(1, 4), slice(None, None, 2), [3, 0], np.array([1]), (slice(0, 2), slice(None, None, 7)), (1, 4)):
        np.testing.assert_array_equal(rows[asked], plain[asked])
    np.testing.assert_array_equal(np.stack(list(rows)), plain)
    with pytest.raises(IndexError):
        rows[5]


def test_a_row_with_any_byte_damaged_is_read_or_refused() -> None:
    row = rows_of("like a model", 1, 70, np.float32)[0][0]
    for data in (encode(row, np.ones(70), 3, 10).as_bytes(), as_it_was(row)):
        for at in range(0, len(data), 3):
            for damage in (data[:at], data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]):
                with contextlib.suppress(ValueError):
                    assert decode(np.frombuffer(damage, np.uint8), 70, np.dtype("<f4")).shape == (70,)


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "head"])
def test_a_file_that_is_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    reference, _ = rows_of("flat", 2, 100, np.float32)
    sha256 = write_compact(tmp_path, {"r": trace("r", reference)}, [])["r"]
    path = place_of(tmp_path, "r")
    data = bytearray(path.read_bytes())
    data[{"head": 9}.get(damage, len(data) - 3)] ^= 1
    path.write_bytes(bytes(data[:-5] if damage == "cut" else data))
    if damage == "gone":
        path.unlink()
    with pytest.raises(ContractError) as error:
        open_compact(path, sha256)
    assert str(path) in str(error.value)


def run(project: Any, keep: Any) -> Workspace:
    candidates = {"good": project.toy(noise=1e-7), "noisy": project.toy(noise=2.0)}
    space = Workspace(project.folder / f"run-{keep}")
    opened = open_contract(project.contract(candidates=candidates, matrix={"mode": ["prefill", "greedy"]}))
    space.check(opened, keep=keep)
    return space


def rows_on_disk(space: Workspace) -> int:
    return sum(path.stat().st_size for path in (space.folder / "store").rglob("logits.bin"))


def test_a_compact_run_is_judged_to_the_same_verdict_and_measured_again_to_a_millionth(project: Any) -> None:
    space = run(project, "compact")
    before = json.loads((space.folder / "verdict.json").read_text())
    report = space.judge_again()
    after = json.loads((space.folder / "verdict.json").read_text())
    assert all(before[key] == after[key] for key in ("status", "cells", "gates"))
    assert rows_on_disk(space) == 0
    checked = 0
    for rows in report.compared.values():
        for row in rows:
            reference, candidate = report.results[row.pair.reference], report.results[row.pair.candidate]
            assert isinstance(reference, Trace) and isinstance(candidate, Trace) and row.comparison is not None
            count = row.comparison.positions
            again = compare(reference.logits[:count], candidate.logits[:count], labels=np.full(count, -1))
            error = np.abs(again.metrics["kl_divergence"] - row.comparison.metrics["kl_divergence"])
            assert is_compact(reference.logits) and error.max() <= TOLERANCE
            checked += count
    assert checked > 20


def test_what_compact_rows_cannot_answer_is_told(project: Any) -> None:
    space = run(project, "compact")
    assert "compact" in space.note and "1e-6" in space.note and "diagnose" in space.note
    report = space.judge_again()
    made = next(result for result in report.results.values() if isinstance(result, Trace) and is_compact(result.logits))
    with pytest.raises(ContractError, match="compact") as error:
        whole(made)
    assert "--keep all" in error.value.remedy


def test_the_next_check_measures_a_compact_run_again(project: Any) -> None:
    space = run(project, "compact")
    report = space.check(open_contract(project.folder / "toys.parity.yaml"))
    assert rows_on_disk(space) > 0
    assert not any(is_compact(result.logits) for result in report.results.values() if isinstance(result, Trace))
    assert not (space.folder / FOLDER).exists()


def test_compact_rows_that_are_damaged_are_never_judged(project: Any) -> None:
    space = run(project, "compact")
    path = next((space.folder / FOLDER).rglob("*.rows"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContractError) as error:
        space.judge_again()
    assert "logitproof check" in error.value.remedy


def test_the_command_line_has_it(project: Any) -> None:
    out = project.folder / "run"
    result = CliRunner().invoke(main, ["check", str(project.contract()), "--out", str(out), "--keep", "compact"])
    assert result.exit_code == 0, result.output
    assert "compact" in result.output and list((out / FOLDER).rglob("*.rows"))
    assert CliRunner().invoke(main, ["judge", str(out)]).exit_code == 0
