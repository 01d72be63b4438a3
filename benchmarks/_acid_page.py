"""The figures of the acid benchmark and of the families' as a table, on the terminal and in docs/acid.md.

Each benchmark plants its own bugs on its own probes: `acid` those of the older families, `families` those of 2026. What the
page says of all is their sum, and every row has the day of its measurement: the library grows between two of them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _page

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "acid.md"
LESSER = {
    "greedy_text": "greedy text of 24 tokens alone",
    "cosine": "cosine of 0.99 alone",
    "short_prompts": "the shortest sequence alone",
    "prefill": "prefill alone",
}
Result = dict[str, Any]
Row = tuple[str, str, str]
HEAD = ("what", "measured", "on")


def results() -> tuple[Result, Result]:
    """What both benchmarks measured last; nothing of one that has no file."""
    acid, families = (RESULTS / "acid.json", RESULTS / "families.json")
    return _read(acid), _read(families)


def rows(acid: Result, families: Result) -> list[Row]:
    """Name, figure and day of everything that was measured."""
    listed = [*_planted(acid, families)]
    listed += [
        (
            "of the older families with every value of their grids, killed",
            _pair(acid, "variants", "variants_killed"),
            _day(acid, "kill"),
        ),
        ("right ways to run an engine, false alarms", _pair(acid, "good_variants", "false_alarms"), _day(acid, "variants")),
        ("engines among them", ", ".join(acid.get("good_engines", [])), _day(acid, "variants")),
        *(
            (f"seconds of the whole run, {name}", f"{seconds}", _day(acid, "time"))
            for name, seconds in acid.get("acid_seconds_by_engine", {}).items()
        ),
        (
            "diagnosed in bfloat16: all, right, wrong",
            _pair(acid, "diagnosed", "named_right", "named_wrong"),
            _day(acid, "diagnosis"),
        ),
        ("planted in GGUF files: all, right", _pair(acid, "planted_in_llamacpp", "planted_right"), _day(acid, "diagnosis")),
        ("held out of the library: all, misnamed", _pair(acid, "held_out", "held_out_misnamed"), _day(acid, "diagnosis")),
        ("seconds of one diagnosis", str(acid.get("diagnose_seconds", "")), _day(acid, "diagnosis")),
    ]
    return [row for row in listed if row[1]]


def page(text: str, acid: Result, families: Result) -> str:
    """The page with the table between its marks."""
    return _page.replaced(text, "bench", _page.table(HEAD, rows(acid, families)))


def write() -> None:
    """Put what both benchmarks measured last into the page."""
    _page.write(PAGE.name, "bench", _page.table(HEAD, rows(*results())))


def _planted(acid: Result, families: Result) -> list[Row]:
    """Bugs planted and killed, of both benchmarks together and of each."""
    if "matrix" not in acid:
        return []
    judged, day = acid["mutations"] - acid["equivalent"], _day(acid, "kill")
    probes = {probe for ratios in acid["matrix"].values() for probe in ratios}
    lesser = [
        (f"– – would be seen by {LESSER[name]}", f"{count} of {judged}", day)
        for name, count in acid.get("killed_by_lesser_tests", {}).items()
    ]
    before = {variant.partition("(")[0] for variant in acid["matrix"]}
    # `benchmarks/acid.py` plants all that there is: what it has planted since is not counted twice
    killed = [name for name in families.get("killed_by", {}) if name not in before]
    newer = len(killed) + len([name for name in families.get("survivors", []) if name not in before])
    if not newer:
        return [
            ("known bugs planted, of them equivalent", f"{acid['mutations']}, {acid['equivalent']}", day),
            (f"killed by one of {len(probes)} probes at ten bands", f"{acid['killed']} of {judged}", day),
            *lesser,
        ]
    later, all_probes = _day(families, "kill"), probes | set(families["by_family"])
    days = ", ".join(sorted({day, later}))
    return [
        ("known bugs planted, of them equivalent", f"{acid['mutations'] + newer}, {acid['equivalent']}", days),
        (
            f"killed by one of {len(all_probes)} probes at ten bands",
            f"{acid['killed'] + len(killed)} of {judged + newer}",
            days,
        ),
        (f"– those of the families of 2026, on {len(families['by_family'])} probes", f"{len(killed)} of {newer}", later),
        (f"– those of the older families, on {len(probes)} probes", f"{acid['killed']} of {judged}", day),
        *lesser,
    ]


def _day(result: Result, part: str) -> str:
    return str(result.get("dates", {}).get(part, ""))


def _pair(result: Result, *names: str) -> str:
    return ", ".join(str(result[name]) for name in names) if all(name in result for name in names) else ""


def _read(path: Path) -> Result:
    read: Result = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return read
