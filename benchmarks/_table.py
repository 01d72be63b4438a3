"""One table of all that is said about speed and size: every figure beside its limit and its peer, out of the result files.

    python benchmarks/_table.py [--out benchmarks/RESULTS.md]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"


@dataclass(frozen=True)
class Figure:
    """One row: what, how much, at most or at least how much, and beside what it was measured."""

    file: str
    name: str
    value: float | None
    limit: float | None
    peer: str
    at_least: bool = False

    @property
    def held(self) -> str:
        if self.value is None or not math.isfinite(self.value):
            return "NOT-MEASURED"
        if self.limit is None:
            return "–"
        return "yes" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "**no**"


PEERS = {
    ("peer", "wall_ratio"): "both passes of llama-perplexity --kl-divergence",
    ("peer", "wall_ratio_cached"): "both passes, with the reference's rows in a file",
    ("peer", "cpu_ratio"): "processor time of both passes",
    ("peer", "disk_ratio"): "the base file that the tool leaves",
    ("peer", "script_ratio"): "token by token, logits as JSON: times as fast",
    ("overhead", "ratio"): "the bare library over the same windows",
    ("overhead", "cpu_ratio"): "its processor time",
    ("overhead", "header_s"): "a GGUF of 262,144 tokens, in seconds",
    ("overhead", "restart_s"): "`check` on a store that has everything, in seconds",
    ("memory", "peak_mb"): "4,090 tokens of a vocabulary of 262,144, in MB",
    ("memory", "compact_peak_mb"): "the same with compact rows, in MB",
    ("memory", "store_ratio"): "raw float32 rows",
    ("memory", "kl_error"): "KL of the raw rows, in nats",
    ("stream", "peak_gib"): "a model larger than memory, in GiB",
    ("stream", "limit_ratio"): "plain products of the same matrices",
}
"""What a figure is measured beside, by file and key."""
AT_LEAST = {("peer", "script_ratio")}


def main() -> None:
    """Print the table and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/RESULTS.md")
    out = parser.parse_args().out
    text = page({name: read(name) for name in ("peer", "overhead", "compare", "memory", "stream", "scale")})
    out.write_text(text, "utf-8")
    print(text)


def read(name: str) -> dict[str, Any]:
    """A result file; nothing where there is none, which is told in its rows."""
    path = RESULTS / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def page(results: dict[str, dict[str, Any]]) -> str:
    """The page, in Markdown."""
    lines = [
        "# What it costs", "",
        "Written by `make bench` out of `benchmarks/results/`; every row says what it was measured beside, in one run with it.",
        "", "| benchmark | figure | value | limit | holds | beside |", "|---|---|--:|--:|---|---|",
    ]  # fmt: skip
    for figure in figures(results):
        bound = "–" if figure.limit is None else f"{'≥' if figure.at_least else '≤'} {figure.limit:g}"
        value = "–" if figure.value is None else f"{figure.value:.3g}"
        lines.append(f"| {figure.file} | {figure.name} | {value} | {bound} | {figure.held} | {figure.peer} |")
    lines += ["", "## Where", "", "| benchmark | date | machine |", "|---|---|---|"]
    for name, content in results.items():
        machine = ", ".join(f"{key} {value}" for key, value in content.get("machine", {}).items()) or "–"
        lines.append(f"| {name} | {content.get('date', '–')} | {machine} |")
    return "\n".join(lines) + "\n"


def figures(results: dict[str, dict[str, Any]]) -> Iterator[Figure]:
    """All rows, in the order of the files."""
    for (file, name), peer in PEERS.items():
        content = results[file]
        yield Figure(file, name, content.get(name), content.get("limits", {}).get(name), peer, (file, name) in AT_LEAST)
    yield from _compared(results["compare"])
    for axis, fitted in results["scale"].get("exponents", {"–": {"–": None}}).items():
        for what, value in fitted.items():
            limit = results["scale"].get("limits", {}).get("exponents")
            yield Figure("scale", f"{what} by {axis}", value, limit, "1 is proportional")


def _compared(content: dict[str, Any]) -> Iterator[Figure]:
    for isa, kinds in content.get("isa", {}).items():
        for kind, value in kinds.items():
            yield Figure("compare", f"{isa}, {kind}", value, content["limits"][isa], "reading both rows")
    if not content.get("isa"):
        yield Figure("compare", "ratio_to_read", content.get("ratio_to_read"), content.get("limit"), "reading both rows")


if __name__ == "__main__":
    main()
