"""Which node may run what: what jobs need in the words of Ray, and what each node lacks of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from logitproof import catalog
from logitproof.jobs.cluster.messages import Described
from logitproof.jobs.group import Group
from logitproof.jobs.needs import Needs

ENGINE = "engine:"
"""Begins the name of the resource of an installed engine."""
SHARE = 0.001
"""What a task takes of a resource that says only that something is there."""
ID = "ray.io/node-id"
OFFER = 'start it with ray start --resources "$(logitproof doctor --ray)"'


@dataclass(frozen=True)
class Node:
    """A node of the cluster; `described` is None of one that has not said anything."""

    id: str
    name: str
    resources: Mapping[str, float] = field(default_factory=dict)
    described: Described | None = None

    def lacks(self, demand: Mapping[str, float]) -> list[str]:
        """What it has less of than a task takes, in words."""
        short = [(name, need) for name, need in demand.items() if self.resources.get(name, 0.0) < need]
        return [
            name
            if need == SHARE
            else f"{need / 2**20:,.0f} MiB of memory (it has {self.resources.get(name, 0.0) / 2**20:,.0f})"
            if name == "memory"
            else f"{need:g} {name}"
            for name, need in short
        ]


def demand(needs: Needs) -> dict[str, float]:
    """Resources by Ray's names. An engine of the catalogue must be declared; one of another file is looked for there."""
    named = [*needs.instruction_sets]
    if needs.engine in catalog.entries("engines"):
        named.append(f"{ENGINE}{needs.engine}")
    amounts = {"CPU": 1.0, "GPU": float(needs.gpus), "memory": float(needs.memory)}
    return {name: amount for name, amount in amounts.items() if amount} | dict.fromkeys(named, SHARE)


def options(amounts: Mapping[str, float]) -> dict[str, Any]:
    """The demand as options of a task."""
    own = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    given = {own[name]: int(amount) if name == "memory" else amount for name, amount in amounts.items() if name in own}
    return {"num_gpus": 0, **given, "resources": {name: amount for name, amount in amounts.items() if name not in own}}


def on(nodes: Iterable[str]) -> dict[str, str]:
    """The labels of these nodes."""
    return {ID: f"in({','.join(sorted(nodes))})"}


def shortage(nodes: Iterable[Node], amounts: Mapping[str, float]) -> str:
    """Why no node can run it, each by its name."""
    lacks = [f"{node.name} lacks {' and '.join(node.lacks(amounts))}" for node in nodes if node.lacks(amounts)]
    return "; ".join(lacks) or "there is none"


def parted(group: Group) -> list[Group]:
    """The group in parts that wait for nothing of each other: one a model, together where one continues another's traces."""
    place = {job.key: (job.model, job.config) for job in group.jobs}
    together = {model: {model} for model in place.values()}
    for job in group.jobs:
        if job.after in place and (first := together[place[job.after]]) is not (second := together[place[job.key]]):
            first |= second
            together.update(dict.fromkeys(first, first))
    parts = {id(models): models for models in together.values()}.values()
    return [
        Group(group.name, group.spec, tuple(job for job in group.jobs if place[job.key] in models)) for models in parts
    ]  # fmt: skip
