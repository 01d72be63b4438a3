"""Many machines: an executor whose groups run on the nodes of a Ray cluster (`check --ray`).

here                              a node
`executor` ── Ray ──────────────▶ `relay`, a task of Ray ── a pipe ──▶ `far_end`, a process without Ray ──▶ engines
places, retries, keeps traces     weights by content, traces back      `run_group`, as on one machine

What travels is `messages`: JSON, and pieces of files as bytes. Only `executor` and `relay` import ray, and only when they run.
"""
