"""What is right to say of each fault of the bench's engine."""

from __future__ import annotations

RIGHT: dict[str, set[str]] = {
    "no last norm": {"norm.final_missing"},
    "relu": {"mlp.relu_for_silu"},
    "no norm of queries and keys": {"norm.qk_missing"},
    "heads tiled": {"attention.heads_tiled"},
    "scores doubled": {"attention.scale_factor"},
    "own key hidden": {"attention.mask_misses_itself"},
    "window of 16": {"attention.window_invented"},
    "base 10,000": {"rope.base"},
    "base 70,000": {"rope.base"},
    "positions doubled": {"rope.twice", "rope.positions_multiplied"},
    "one added to norms": {"norm.one_added"},
    "logits times 1.15": {"head.temperature_applied"},
    "probabilities": {"head.probabilities"},
    "head 2 of layer 1 lost": {"attention.head_dead"},
    "down matrix of layer 1 missing": {"weights.tensor_dropped"},
    "layer 1 has the value matrix of layer 0": {"weights.tensor_of_another_layer"},
    "query matrices of the layers exchanged": {"weights.tensors_exchanged"},
    "embedding times 16": {"embedding.scale_invented"},
    "window of 21": {"attention.window_invented"},
    "window of 19 in layer 1": {"attention.window_invented"},
    "scores capped at 12": {"attention.softcap_invented"},
    "a sink of one": {"attention.sink_invented"},
    "the next key is seen": {"attention.mask_sees_next"},
    "keys one position on": {"rope.keys_offset"},
    "cosines in bfloat16": {"rope.low_precision.table"},
    "keys rounded to 8 bits": {"kv.quantized"},
    "values in 4 bits": {"kv.quantized"},
    "cache in bfloat16": {"kv.low_precision"},
    "repetition penalty of 1.25": {"head.repetition_penalty"},
    "0.8 off for tokens that came": {"head.presence_penalty"},
    "last norm takes the mean off": {"norm.layer_norm"},
    "no residual of attention in layer 1": {"attention.residual_missing"},
    "decode: cached keys one position on": {"rope.keys_offset_in_decode"},
    "decode: step 6 has the values of step 5": {"kv.stale_slot", "kv.values_one_late"},
    # 12 tokens and the step's own key are a window of 13, and a window of cached steps is one of every row of decode
    "decode: a step forgets what is older than 12": {"attention.window_invented"},
    "experts: expert 4 of layer 1 is expert 2": {"moe.expert_of_another"},
    "experts: experts 1 and 3 exchanged": {"moe.two_experts_exchanged"},
    "experts: shares of experts not normalized": {"moe.topk_norm_missing"},
}
"""Faults that the library knows, by the names that are right for them; before a colon stands where the fault is run."""
DESCRIBED: dict[str, set[str]] = {
    "logits rolled by three": {"permutation"},
    "two logits exchanged": {"permutation", "certain ids"},
    "arctan cap": {"function of a logit"},
    "bias on the head": {"same vector"},
    "tokens that came are halved": {"tokens that came"},
    "chunks of 16 forget": {"every n-th position", "from a position"},
    "key 5 lost after 20": {"from a position"},
    "embedding row of a token": {"certain tokens"},
    "odd clamp of the gate": {"before the head"},
    "activation of 1.2 times the gate": {"before the head"},
    "every query forgets the third key": {"from a position"},
    "last query head reads the first key head": {"before the head"},
    "output matrix of layer 0 not initialized": {"before the head"},
    "positions begin anew at 20": {"from a position"},
    "decode: step 9 writes over slot 4": {"only decode"},
}
"""Faults that the library does not know, by what must be seen of each."""
PAIRS = (
    ("base 10,000", "relu"),
    ("heads tiled", "no last norm"),
    ("window of 16", "scores doubled"),
    ("a sink of one", "keys one position on"),
    ("cosines in bfloat16", "relu"),
)
TRIPLES = (
    ("base 10,000", "relu", "one added to norms"),
    ("heads tiled", "no last norm", "scores doubled"),
    ("window of 16", "relu", "base 10,000"),
    ("no norm of queries and keys", "own key hidden", "logits times 1.15"),
)
ODD: dict[str, int | None] = {
    "results in bfloat16": 8,
    "results in float16": 11,
    "results in blocks of 8 bits": 8,
}
"""Right engines of another arithmetic, by the significant bits that their authors declare."""
