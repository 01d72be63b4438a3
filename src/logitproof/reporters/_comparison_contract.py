"""The comparison contract as rows: what both sides of every pair read, and how far that is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from logitproof.report.report import Report

SHOWN = ("name", "reference", "candidate", "likeness", "note")
Row = tuple[str, str, str, str, str, str]
"""Weights files, setting, reference, candidate, likeness, note."""


def pairs(report: Report) -> list[Mapping[str, Any]]:
    """The pairs that were examined, as verdict.json has them."""
    examined: list[Mapping[str, Any]] = report.facts.get("preflight", {}).get("pairs", [])
    return examined


def name_of(pair: Mapping[str, Any]) -> str:
    return f"{pair['candidate']}/{pair['model']}/{pair['quantization']}"


def likeness(pair: Mapping[str, Any]) -> Counter[str]:
    """How many settings are the same, differ, are only listed or could not be compared."""
    return Counter(row["likeness"] for row in pair["settings"])


def weights(pair: Mapping[str, Any]) -> str:
    """How the weights were compared, in a few words."""
    row = next((row for row in pair["settings"] if row["name"] == "weights"), None)
    if row is None:
        return "not compared"
    return f"{row['candidate']}, {row['note']}" if row["likeness"] != "not compared" else "not compared"


def merged(report: Report) -> Iterator[Row]:
    """Every setting once for all the weights files that have it alike."""
    labels_of: dict[tuple[str, ...], list[str]] = {}
    for pair in pairs(report):
        for row in pair["settings"]:
            key = (pair["candidate"], pair["model"], *(row[name] for name in SHOWN))
            labels_of.setdefault(key, []).append(pair["quantization"])
    for (candidate, model, name, reference, candidate_value, like, note), labels in labels_of.items():
        files = labels[0] if len(labels) == 1 else f"{{{','.join(labels)}}}"
        yield f"{candidate}/{model}/{files}", name, reference, candidate_value, like, note
