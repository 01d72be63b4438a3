"""The error of every kind of operation in torch and in ggml, beside the one that the bands assume, family by family.

Every zoo family at its own shapes, natively; one family more with both libraries pinned to each instruction set that this
machine can prove (`make isa` builds ggml's backends).

    python benchmarks/kernels.py [--out benchmarks/results/kernels.json]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import _page
import numpy as np

from logitproof.contract.isa import INSTRUCTION_SETS
from logitproof.errors import ContractError
from logitproof.files.atomic import write_atomically
from logitproof.kernels.isa import VARIANTS, measure_on
from logitproof.kernels.measure import DTYPES, measure_kernels

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/kernels.json"
FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
QUANTIZATIONS = ("F32", "F16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M")
PINNED = "qwen3-moe"
NAMED = ("softmax", "norm", "activation", "rope", "attention", "matmul", "router", "experts", "MoE", "delta-net")
"""Kinds in the order of the table."""
COLUMNS = [("torch", kind) for kind in DTYPES] + [("ggml", kind) for kind in ("F32", "F16", "Q8_0", "Q4_K", "Q6_K")]
NEAR = 3.0
KEYS = (32, 128, 512, 2048)
HEADS, GROUPS, SIZE = 8, 2, 64
SCALE = SIZE**-0.5
HALF_ADDITION = 0.72 * 2.0**-10 / 12**0.5
"""RMS relative error of rounding to float16."""
FEATURES = ("isa.matmul", "isa.features of CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    rows = [
        row for family in FAMILIES for row in of(family, measure_kernels(ROOT / "zoo" / family, quantizations=QUANTIZATIONS))
    ]
    pinned, left = on_each()
    found = {
        "kernels": len(rows),
        "within_3x": round(sum(map(is_near, rows)) / len(rows), 4),
        "kinds": kinds(rows),
        "isa": {isa: {"evidence": evidence, "kinds": kinds(one)} for isa, (evidence, one) in pinned.items()},
        "isa_not_measured": left,
        "attention": [of_length(keys, queries) for keys in KEYS for queries in (1, keys)],
        "rows": rows,
    }
    write_atomically(asked.out, as_json(found))
    print(table(found), summary(found), instructions(found), lengths(found), sep="\n")
    if asked.out == RESULT:
        _page.write("bands.md", "bench kernels", f"{table(found)}\n{summary(found)}")
        _page.write("bands.md", "bench kernels on isa", instructions(found))
        _page.write("bands.md", "bench kernels by length", lengths(found))
    return 0


def is_near(row: dict[str, Any]) -> bool:
    """Whether what is assumed is of the size of what was measured."""
    return 1 / NEAR < row["assumed"] / row["rms"] < NEAR


def of(family: str, measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one family, with its name."""
    for one in measured["not_measured"]:
        print(f"{family}: not measured: {one}", file=sys.stderr)
    return [{"family": family, **row} for row in measured["kernels"]]


def on_each() -> tuple[dict[str, Any], dict[str, str]]:
    """Evidence and rows by instruction set, and why the others are not there."""
    pinned: dict[str, Any] = {}
    left: dict[str, str] = {}
    for isa, (machine, _) in INSTRUCTION_SETS.items():
        try:
            folder = ROOT / VARIANTS / machine
            one = measure_on(isa, ROOT / "zoo" / PINNED, ("bfloat16",), ("F32", "Q8_0", "Q4_K_M"), folder)
        except ContractError as error:
            left[isa] = error.text.replace(f"{ROOT}/", "")
            continue
        pinned[isa] = ({key: one["evidence"][key] for key in FEATURES}, of(PINNED, one))
    return pinned, left


def of_length(keys: int, queries: int) -> dict[str, Any]:
    """Attention of the last `queries` over normal numbers, with a cache in float16: RMS errors against float64."""
    from logitproof.kernels.ggml_graph import Ggml
    from logitproof.kernels.ggml_operations import attended, attended_at_once

    random = np.random.default_rng(keys)
    query = random.normal(size=(HEADS, queries, SIZE)).astype(np.float32)
    key, value = random.normal(size=(2, GROUPS, keys, SIZE)).astype(np.float16)
    wide = [np.repeat(one.astype(np.float64), HEADS // GROUPS, 0) for one in (key, value)]
    hidden = np.triu(np.full((queries, keys), -np.inf), keys - queries + 1)
    weights = np.exp(query.astype(np.float64) @ wide[0].swapaxes(1, 2) * SCALE + hidden)
    exact = (weights / weights.sum(-1, keepdims=True) @ wide[1]).swapaxes(0, 1)
    ggml, given = Ggml(), {"query": query, "key": key, "value": value, "scale": SCALE}
    errors = {
        name: float(np.sqrt(((function(ggml, **given) - exact) ** 2).mean() / (exact**2).mean()))
        for name, function in (("unfused", attended), ("flash", attended_at_once))
    }
    return {"keys": keys, "queries": queries, **errors, "sum_in_float16": HALF_ADDITION * math.sqrt(keys / 2)}


def lengths(found: dict[str, Any]) -> str:
    """Attention by the number of keys."""
    rows = (
        (
            one["keys"],
            one["queries"],
            f"{one['unfused']:.1e}",
            f"{one['flash']:.1e}",
            f"{one['sum_in_float16']:.1e}" if one["queries"] == 1 else "",
        )
        for one in found["attention"]
    )
    return _page.table(("keys", "queries", "unfused", "flash", "a sum in float16"), rows)


def kinds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row an engine, kind and type: the RMS error over all its kernels, and the range of assumed over measured."""
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] in NAMED:
            found.setdefault((row["engine"], row["kind"], group(row), row["precision"]), []).append(row)
    return [
        {
            "engine": engine,
            "kind": kind,
            "of": name,
            "precision": precision,
            "kernels": len(those),
            "rms": mean(row["rms"] for row in those),
            "assumed": mean(row["assumed"] for row in those),
            "least_ratio": min(row["assumed"] / row["rms"] for row in those),
            "largest_ratio": max(row["assumed"] / row["rms"] for row in those),
        }
        for (engine, kind, name, precision), those in sorted(found.items(), key=order)
    ]


def group(row: dict[str, Any]) -> str:
    """What of a kind is told apart: kernels of other algorithms, and a module from the kernel inside of it."""
    return row["name"] if row["kind"] in ("rope", "attention", "delta-net", "experts") else ""


def order(item: tuple[tuple[str, ...], Any]) -> tuple[Any, ...]:
    engine, kind, name, precision = item[0]
    return NAMED.index(kind), name, engine, precision


def mean(values: Iterable[float]) -> float:
    """The RMS."""
    squares = [value**2 for value in values]
    return math.sqrt(sum(squares) / len(squares))


def table(found: dict[str, Any]) -> str:
    """A line a kind and a column a type: the measured RMS error, and the range of assumed over measured."""
    cells: dict[str, dict[tuple[str, str], str]] = {}
    for one in found["kinds"]:
        ratios = dict.fromkeys(f"{one[key]:.2f}" for key in ("least_ratio", "largest_ratio"))
        cell = f"{one['rms']:.1e}, {'–'.join(ratios)}"
        cells.setdefault(f"{one['kind']} {one['of']}".strip(), {})[one["engine"], one["precision"]] = cell
    head = ("operation", *(" ".join(column) for column in COLUMNS))
    return _page.table(head, ((name, *(row.get(column, "") for column in COLUMNS)) for name, row in cells.items()))


def summary(found: dict[str, Any]) -> str:
    """How many rows are near what is assumed, and which are not."""
    far = sorted({f"{row['engine']} {row['kind']} {row['name']}" for row in found["rows"] if not is_near(row)})
    near = f"Within a factor of 3: {found['within_3x']:.1%} of {found['kernels']} kernels"
    return f"{near}; not in every family: {', '.join(far)}.\n" if far else f"{near}.\n"


def instructions(found: dict[str, Any]) -> str:
    """One family on each instruction set: RMS error by kind."""
    columns = [("torch", "matmul", "bfloat16"), ("ggml", "matmul", "Q8_0"), ("ggml", "matmul", "F32")]
    columns += [("ggml", kind, "F32") for kind in ("norm", "softmax", "activation", "router", "attention")]
    rows = []
    for isa, one in found["isa"].items():
        cells = []
        for engine, kind, precision in columns:
            those = [row for row in one["kinds"] if (row["engine"], row["kind"], row["precision"]) == (engine, kind, precision)]
            cells.append(f"{mean(row['rms'] for row in those):.2e}")
        rows.append((isa, *cells, "; ".join(one["evidence"].values())))
    rows += [(isa, *["–"] * len(columns), reason) for isa, reason in found["isa_not_measured"].items()]
    return _page.table(("on", *(" ".join(column) for column in columns), "proof, or why there is none"), rows)


def as_json(found: dict[str, Any]) -> str:
    """A line a row: there are many."""
    head = {key: value for key, value in found.items() if key != "rows"}
    rows = ",\n  ".join(json.dumps(row) for row in found["rows"])
    return f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n'


if __name__ == "__main__":
    raise SystemExit(main())
