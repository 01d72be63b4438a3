"""A localization in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.localization.located import Locations
from logitproof.protocol import taps

SHOWN = 12
"""Broken operations that the console lists."""


def as_text(found: Locations) -> str:
    """What a person reads first: the answer, then the evidence."""
    lines = []
    for one in found.located:
        where = one.localization
        if where.verdict == "located":
            lines.append(f"{one.name}: first wrong at {where.first}")
        elif where.verdict == "only accumulated":
            lines.append(f"{one.name}: differs from {where.first} on, of what could only be compared accumulated")
        elif where.verdict == "same":
            lines.append(f"{one.name}: every operation is the reference's, as {one.precision} computes it")
        else:
            lines.append(f"{one.name}: nothing could be compared")
        rows = {row.tap: row for row in where.rows}
        for tap in where.broken[:SHOWN]:
            row = rows[tap]
            far = f"{row.ratio:.3g} × what {one.precision} explains"
            shown = "another shape" if row.isolated is None and not np.isfinite(row.accumulated) else far
            lines.append(f"  {tap}: {shown}{f'; {row.suspicion}' if row.suspicion else ''}")
            lines += [f"    known bug: {each} (residual {each.residual:.1e})" for each in one.explained if each.tap == tap]
            tried = [each for each in one.hypotheses if each.tap == tap]
            if tried and not any(each.explains for each in tried):
                near = "; ".join(f"{each} {each.residual:.2g}" for each in tried[:3])
                lines.append(f"    none of {len(tried)} known bugs of it explains it; nearest: {near}")
        if len(where.broken) > SHOWN:
            lines.append(f"  … and {len(where.broken) - SHOWN} more, all of them in localization.json")
        cleared = sorted({taps.split(row.tap)[1] for row in where.rows if row.status in ("same", "carried")})
        guilty = {taps.split(tap)[1] for tap in where.broken}
        if where.broken:
            lines.append(f"  cleared on its own input: {', '.join(leaf for leaf in cleared if leaf not in guilty)}")
        lines += [f"    remedy: {text}" for text in dict.fromkeys(each.remedy for each in one.explained)]
    lines += [f"note: {text}" for text in found.notes]
    stage = found.first_stage
    if stage is not None:
        who = f"{stage.odd} stands apart" if stage.odd else "no two agree"
        lines.append(f"first disagreement of all: {stage.tap}: {who} by {stage.apart:.2g}, the others by {stage.together:.1e}")
    return "\n".join(lines)


def write(found: Locations, folder: Path) -> None:
    """localization.json and the picture, localization.html."""
    from logitproof.files.atomic import write_atomically
    from logitproof.localization.page import page

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "localization.json", json.dumps(plain(found), indent=1) + "\n")
    write_atomically(folder / "localization.html", page(found))


def plain(found: Locations) -> Any:
    """localization.json."""
    return _finite(found.as_json())


def _finite(value: Any) -> Any:
    """Plain data without infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
