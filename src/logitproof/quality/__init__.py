"""Generation quality: what a release note says of an engine, each figure with its interval and its condition.

`greedy` counts free-running agreement, `sampled` compares distributions as they are drawn from, `mismatch`
says what a trainer sees of a rollout engine, `horizon` looks for drift with the position, `two_sample` needs
no logits at all. `sections` puts them together for a judged run.
"""
