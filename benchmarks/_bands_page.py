"""The figures of the bands benchmark as tables in docs/bands.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import _page

FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")


def write(result: Mapping[str, Any]) -> None:
    """Put the tables into the page."""
    _page.write("bands.md", "bench cells", cells(result))
    _page.write("bands.md", "bench flips", flips(result))
    _page.write("bands.md", "bench kills", kills(result))


def cells(result: Mapping[str, Any]) -> str:
    """A row an engine, a column a family: predicted over observed RMS logit error, and coverage of the 99.9 % band."""
    rows: dict[str, dict[str, str]] = {}
    for one in result["cells"]:
        said = f"{one['ratio']:.2f}, {one['coverage']:.1%}"
        rows.setdefault(f"{one['engine']} {one['precision']}", {})[one["family"]] = said
        rows[f"{one['engine']} {one['precision']}"].setdefault("rms", f"{one['observed_rms']:.1e}")
    table = _page.table(
        ("engine", "observed RMS, logits", *FAMILIES),
        ([name, row["rms"], *(row.get(family, "–") for family in FAMILIES)] for name, row in rows.items()),
    )
    share = result["cells_within_2x"] / result["cells_measured"]
    reasons = dict.fromkeys(f"{one['engine']} {one['family']}: {one['reason']}" for one in result["unmeasured"])
    without = "".join(f"\n* {reason}" for reason in reasons)
    return (
        f"{table}\nWithin 0.5 to 2: {share:.1%} of {result['cells_measured']} cells. Coverage: {result['coverage']:.2%}."
        f"{' Not measured:' if without else ''}\n{without}\n"
    )


def flips(result: Mapping[str, Any]) -> str:
    """The experts: how often they are others, predicted and observed, and how far such positions are off."""
    rows = []
    for one in result["cells"]:
        if (found := one["flips"])["predicted_rate"] or found["observed_rate"]:
            rates = [f"{found['predicted_rate']:.2%}", f"{found['observed_rate']:.2%}"]
            sizes = [f"{found['predicted_rms']:.2g}", f"{found['observed_rms']:.2g}"]
            rows.append([f"{one['engine']} {one['precision']}", *rates, *sizes, found["positions_behind"]])
    head = ("engine", "flips predicted", "observed", "RMS there predicted", "observed", "positions left out of the table above")
    return _page.table(head, rows)


def kills(result: Mapping[str, Any]) -> str:
    """What the bands of each type catch, and the weakest bug that they do."""
    if not result["kills"]:
        return "Not measured in this run.\n"
    rows = []
    for family, row in result["kills"].items():
        for dtype, noise in row["noise"].items():
            judged = {name: one[dtype] for name, one in row["bugs"].items() if "error" not in one.get(dtype, {"error": ""})}
            caught = {name: one for name, one in judged.items() if one["by"]}
            finite = {name: one["effect"] for name, one in caught.items() if one["effect"] is not None}
            weakest = min(finite, key=lambda name: finite[name]) if finite else "–"
            missed = ", ".join(f"`{name}`" for name in judged if name not in caught) or "–"
            rows.append([family, dtype, f"{noise:.1e}", f"{len(caught)} of {len(judged)}", f"`{weakest}`", missed])
    head = ("family", "type", "noise, logits RMS", "bugs outside", "weakest that is caught", "inside the band")
    table = _page.table(head, rows)
    strong = f"{result['stronger_and_outside']} of {result['stronger_than_noise']}"
    return f"{table}\nOf the bugs that change more than the noise does, {strong} lie outside.\n"
