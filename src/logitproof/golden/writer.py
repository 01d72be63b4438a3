"""Writes a golden row by row, measures what each row loses, and reads the file back before it counts."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.safetensors import TensorsWriter
from logitproof.files.untrusted import refusal
from logitproof.readers.golden import Golden
from logitproof.rows.bounds import bound_kl, known_logits, known_top
from logitproof.traces import rowcode as code
from logitproof.traces.golden_header import CHECKSUMS, FORMAT, Header
from logitproof.traces.trace import Trace

TOP_K = 64
KL_ERROR = 1e-6
"""Nats a token that the compact form may differ from the exact logits; measured, not hoped."""
RMS_ERROR = 3e-5
"""Logits, RMS over the vocabulary: well inside the band of two float32 engines (1e-4)."""
SMALL_BYTES = 200
MARGIN_FLOOR = 1e-3
"""Logits below which a margin may flip between two float32 builds, where nothing was measured."""


@dataclass(frozen=True)
class Limits:
    """What freezing may cost: errors of the full form, bytes a token of the small one, and the least sure margin."""

    top_k: int = TOP_K
    kl_error: float = KL_ERROR
    rms_error: float = RMS_ERROR
    small_bytes: int = SMALL_BYTES
    margin_floor: float = MARGIN_FLOOR


def write_golden(traces: Sequence[Trace], header: Header, out: Path, limits: Limits) -> tuple[Header, int]:
    """Write `out`; the header with the errors that were measured, and the size of the file.

    Raises ContractError, and leaves no file, where the errors exceed the limits.
    """
    writer = TensorsWriter(out)
    try:
        errors = []
        for number, trace in enumerate(traces):
            writer.add(f"{number}.token_ids", np.array(trace.token_ids, np.int32))
            errors += (
                _add_small(writer, number, trace, header)
                if header.form == "small"
                else _add_full(writer, number, trace, header, limits)
            )
        header = header.model_copy(update={"error": _summary(errors)})
        text = header.model_dump_json()
        sums = {**writer.checksums, "header": hashlib.sha256(text.encode()).hexdigest()}
        size = writer.finish({"format": FORMAT, "header": text, CHECKSUMS: json.dumps(sums)})
    finally:
        writer.abandon()
    _read_back(traces, header, out, limits)
    return header, size


def _add_full(writer: TensorsWriter, number: int, trace: Trace, header: Header, limits: Limits) -> list[dict[str, float]]:
    ids, tops, scales, widths, rest, errors = [], [], [], [], [], []
    for position, logits in enumerate(trace.logits):
        row = np.asarray(logits, header.dtype)
        best = np.sort(np.argsort(-row, kind="stable")[: header.top_k])
        for width in code.WIDTHS:
            least, step, data = code.encode(row, width, best)
            back = code.decode(np.frombuffer(data, np.uint8), len(row), width, least, step).astype(header.dtype)
            back[best] = row[best]
            error = _row_error(row, back)
            if error["kl"] <= limits.kl_error and error["rms"] <= limits.rms_error:
                break
        else:
            raise ContractError(
                f"{width} bits leave a KL error of {error['kl']:.3g} nats and {error['rms']:.3g} logits RMS, "
                f"allowed are {limits.kl_error:g} and {limits.rms_error:g}",
                where=f"prompt {header.prompts[number].id}, position {position}",
                remedy="the range of its logits is extreme: allow more, or keep the capture itself",
            )
        ids.append(best)
        tops.append(row[best])
        scales.append((least, step))
        widths.append(width)
        rest.append(data)
        errors.append(error)
    writer.add(f"{number}.top_ids", np.array(ids, np.uint32))
    writer.add(f"{number}.top_logits", np.array(tops, header.dtype))
    writer.add(f"{number}.scale", np.array(scales, np.float64))
    writer.add(f"{number}.width", np.array(widths, np.uint8))
    writer.add(f"{number}.rest", np.frombuffer(b"".join(rest), np.uint8))
    return errors


def _add_small(writer: TensorsWriter, number: int, trace: Trace, header: Header) -> list[dict[str, float]]:
    rows, errors = [], []
    for logits in trace.logits:
        known = known_logits(logits)
        order = np.argsort(-known.log_p, kind="stable")
        best, others = order[: header.top_k], order[header.top_k :]
        mass = float(np.exp(known.log_p[others]).sum())
        data = code.encode_small(best, known.log_p[best], math.log(mass) if mass > 0 else -math.inf, header.vocab_size)
        rows.append(np.frombuffer(data, np.uint8))
        ids, log_p, tail, slack = code.decode_small(rows[-1], header.top_k, header.vocab_size)
        top = known_top(ids, log_p, hidden=header.vocab_size - header.top_k, slack=slack + 1e-15, log_tail=tail)
        bounds = bound_kl(top, known)
        errors.append({"kl_lower": bounds.lower, "kl_upper": bounds.upper, "tail_mass": mass, "slack": slack})
    writer.add(f"{number}.rows", np.stack(rows))
    return errors


def _row_error(exact: np.ndarray, back: np.ndarray) -> dict[str, float]:
    """What the compact row loses, in float64: KL in nats, RMS of the logits after the shift is removed."""
    a, b = known_logits(exact), known_logits(back)
    p = np.exp(a.log_p)
    lost = np.isfinite(a.log_p) & ~np.isfinite(b.log_p)
    if lost.any():
        return {"kl": math.inf, "rms": math.inf}
    kl = float(np.sum(np.where(p > 0, p * delta(b.log_p, a.log_p), 0.0)))
    gap = delta(np.asarray(exact, np.float64), np.asarray(back, np.float64))
    return {"kl": max(kl, 0.0), "rms": float(np.std(gap))}


def _summary(errors: list[dict[str, float]]) -> dict[str, float | None]:
    """Largest and mean of every error; what is not finite has no number."""
    summary: dict[str, float | None] = {}
    for name in errors[0]:
        values = np.array([error[name] for error in errors])
        for statistic, value in (("max", float(values.max())), ("mean", float(values.mean()))):
            summary[f"{name}_{statistic}"] = value if math.isfinite(value) else None
    return summary


def _read_back(traces: Sequence[Trace], header: Header, out: Path, limits: Limits) -> None:
    """What will be used is what was measured: the file is opened as a stranger would, and held against the traces."""
    dump = Golden().read(out)
    for trace, prompt in zip(traces, dump.prompts, strict=True):
        good = prompt.token_ids == trace.token_ids
        if prompt.logits is not None:
            worst = [_row_error(np.asarray(row, header.dtype), prompt.logits[n]) for n, row in enumerate(trace.logits)]
            good = good and all(error["kl"] <= limits.kl_error and error["rms"] <= limits.rms_error for error in worst)
        if not good:
            out.unlink()
            raise refusal(
                out, f"prompt {prompt.id}", "does not read back as it was written", "freeze it again, to another disk"
            )


def delta(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """b - a where both are finite; masked entries are equal."""
    finite = np.isfinite(a) & np.isfinite(b)
    return np.where(finite, b - np.where(finite, a, 0.0), 0.0)
