"""The figures of the acid benchmark as a table, on the terminal and in docs/acid.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _page

PAGE = Path(__file__).parents[1] / "docs" / "acid.md"
LESSER = {
    "greedy_text": "greedy text of 24 tokens alone",
    "cosine": "cosine of 0.99 alone",
    "short_prompts": "the shortest sequence alone",
    "prefill": "prefill alone",
}


def rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and figure of everything that was measured."""
    judged = result.get("mutations", 0) - result.get("equivalent", 0)
    found = [
        ("known bugs planted, of them equivalent", _pair(result, "mutations", "equivalent")),
        ("killed by a probe at ten bands", f"{result.get('killed')} of {judged}"),
        *((f"– would be seen by {LESSER[name]}", f"{count} of {judged}") for name, count in _lesser(result).items()),
        ("with every value of their grids, killed", _pair(result, "variants", "variants_killed")),
        ("right ways to run an engine, false alarms", _pair(result, "good_variants", "false_alarms")),
        ("engines among them", ", ".join(result.get("good_engines", []))),
        *(
            (f"seconds of the whole run, {name}", f"{value}")
            for name, value in result.get("acid_seconds_by_engine", {}).items()
        ),
        ("diagnosed in bfloat16: all, right, wrong", _pair(result, "diagnosed", "named_right", "named_wrong")),
        ("planted in GGUF files: all, right", _pair(result, "planted_in_llamacpp", "planted_right")),
        ("held out of the library: all, misnamed", _pair(result, "held_out", "held_out_misnamed")),
        ("seconds of one diagnosis", str(result.get("diagnose_seconds", ""))),
    ]
    return [(name, value) for name, value in found if value]


def markdown(result: dict[str, Any]) -> str:
    """The table of the page."""
    return _page.table(("what", "measured"), rows(result))


def page(text: str, result: dict[str, Any]) -> str:
    """The page with the table between its marks."""
    return _page.replaced(text, "bench", markdown(result))


def _lesser(result: dict[str, Any]) -> dict[str, int]:
    return dict(result.get("killed_by_lesser_tests", {}))


def _pair(result: dict[str, Any], *names: str) -> str:
    return ", ".join(str(result[name]) for name in names) if all(name in result for name in names) else ""
