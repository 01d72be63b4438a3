"""Many machines: an executor whose groups run on the nodes of a Ray cluster (`check --ray`).

here                                        a node
`executor` ── `link`, `driver` ── Ray ────▶ `relay`, a task of Ray ── a pipe ──▶ `far_end`, a process without Ray ──▶ engines
retries, keeps traces                       weights by content, traces back      `run_group`, as on one machine
`tasks` places them

`driver` is a process too: the one that has joined the cluster, which Ray ends as it likes.

What travels is `messages`: JSON, and pieces of files as bytes. Only `driver` and `relay` import ray, and only when they run.
"""
