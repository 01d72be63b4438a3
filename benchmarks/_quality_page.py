"""The figures of the quality benchmark as tables in docs/quality.md."""

from __future__ import annotations

from typing import Any

import _page

NAMES = {"llamacpp": "llama.cpp F16", "bf16": "transformers, bfloat16"}


def markdown(result: dict[str, Any]) -> str:
    """Every part that was measured; a part that was not has no table."""
    parts = (("cells", _cells), ("faults", _faults), ("seeded", _seeded), ("sample_trials", _rates), ("horizon", _horizon))
    return "\n".join(table(result) for name, table in parts if name in result)


def write(result: dict[str, Any]) -> None:
    """Put the tables between the page's marks."""
    _page.write("quality.md", "bench", markdown(result))


def _cells(result: dict[str, Any]) -> str:
    rows = [
        (
            NAMES.get(one["engine"], one["engine"]),
            one["model"],
            *(f"{one[key]:.2%}" for key in ("greedy10", "greedy10_strict", "greedy50")),
            f"{one['kl_mean_100']:.1e}",
            "yes" if one["meets_bar"] else "no: " + ", ".join(one["missed"]),
        )
        for one in result["cells"]
    ]
    head = ("against HF float32, `quality-100`", "model", "match@10", "strict", "match@50", "mean KL (nats)", "meets 16 bits")
    return _page.table(head, rows)


def _faults(result: dict[str, Any]) -> str:
    rows = [(one["fault"], ", ".join(one["missed"]), "yes" if one["caught"] else "no") for one in result["faults"]]
    return _page.table(("planted fault", "sections that it misses", "the right one among them"), rows)


def _seeded(result: dict[str, Any]) -> str:
    rows = [
        (f"`{one['sampler']}`" if one["bug"] else one["sampler"], one["draws"], one["equal"], one["ties"], one["wrong"])
        for one in result["seeded"]
    ]
    return _page.table(("seeded sampler", "tokens drawn", "foretold", "on a boundary", "wrong"), rows)


def _rates(result: dict[str, Any]) -> str:
    def share(name: str) -> str:
        low, high = result[f"{name}_interval"]
        return f"{result[name]:.1%} (95 % {low:.1%} to {high:.1%})"

    rows = [
        (f"equal samplers called different at 5 %, {result['sample_trials']} trials", share("sample_false_positives")),
        (f"a repetition penalty of 1.1 seen, {result['sample_power_trials']} trials", share("sample_power")),
    ]
    return _page.table(("two-sample test", "share"), rows)


def _horizon(result: dict[str, Any]) -> str:
    rows = [
        (
            one["engine"],
            one["model"],
            max(one["positions"]),
            f"{one['bins'][3][2]:.1e}",
            f"{one['bins'][-1][2]:.1e}",
            f"{one['growth']:.2f} ({one['interval'][0]:.2f} to {one['interval'][1]:.2f})",
            f"×{max(ratio for _, ratio in one['steps']):.2g}",
        )
        for one in result["horizon"]
    ]
    head = (
        "against HF float32, `horizon-4k`",
        "model",
        "positions",
        "mean KL at 64–127",
        "at 2048 and on",
        "slope of log KL",
        "largest step at a cache boundary",
    )
    return _page.table(head, rows)
