"""The figures of the localize benchmark as a table, in docs/localize.md."""

from __future__ import annotations

from typing import Any

import _page


def markdown(result: dict[str, Any]) -> str:
    """The table in docs/localize.md."""
    mega = 2**20
    rows = [
        ("bugs of the graph planted, in float32, in bfloat16 and in llama.cpp's files", result["planted"]),
        ("– of them the first wrong operation is the one that the bug declares", result["located_right"]),
        ("– operations that were flagged though the bug does not touch them", result["false_flags"]),
        ("– bugs besides that are smaller than the arithmetic's own noise", result["below_noise"]),
        ("– planted in a GGUF file and run by llama.cpp; of these located",
         f"{result['planted_in_llamacpp']}, {result['located_in_llamacpp']}"),
        ("two bugs in two layers, both found", f"{result['two_bug_cases']}, {result['two_bug_found']}"),
        ("taps of transformers and llama.cpp compared in float32, greatest relative difference",
         f"{result['taps_compared']}, {result['tap_max_relative']:.1e}"),
        ("– and of Gemma's, where ggml takes GELU from a table in float16", result["taps_of_narrower_arithmetic"]),
        ("a pass with every tap of every layer, over a plain pass", f"{result['overhead_ratio']} ×"),
        ("32 layers of width 4096, 128 positions: boundaries, taps of one layer",
         f"{result['bytes_of_32_boundaries_4096'] / mega:.0f} MiB, {result['bytes_of_one_layer_4096'] / mega:.0f} MiB"),
    ]  # fmt: skip
    return _page.table(("what", "measured"), rows)
