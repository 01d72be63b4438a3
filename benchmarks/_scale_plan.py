"""A plan for many nodes and many cells: the job graph of `check --ray`, run by a discrete-event simulation (simpy).

Every rate and duration comes from a results file: what a task, a piece and a trace cost from `ray.json`, what a pass over a
model of 8 billion weights costs from `stream.json`. A node is as fast as the machine that was measured; a wire that is faster
than the network is as fast as the network.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import simpy

GRID = {"models": 10, "quantizations": 5, "candidates": 5, "modes": 4}
"""A thousand cells."""
NODES = 100
BYTES_PER_WEIGHT = {"BF16": 2.0, "F16": 2.0, "Q8_0": 34 / 32, "Q6_K": 210 / 256, "Q4_K": 144 / 256}
NETWORK_MB_S = 1250.0
"""Ten gigabits."""


@dataclass(frozen=True)
class Inputs:
    """Seconds and megabytes (1e6 bytes), each out of a results file."""

    pass_s: float
    """a pass of one engine over all prompts of a cell"""
    task_s: float
    """a task beside what its engine computes: a far end, an engine, the answers"""
    dispatch_s: float
    """what the scheduler takes for a task"""
    fetch_mb_s: float
    trace_mb_s: float
    weights: int
    rows_mb: float
    """the rows of one engine for all prompts of a cell"""


def inputs(ray: Mapping[str, Any], stream: Mapping[str, Any]) -> Inputs:
    """What a plan rests on, from the measured part of ray.json and from stream.json, at the published number of layers."""
    shape = stream["shape"]
    whole = shape["layers_of_the_published_model"] / shape["layers"]
    edges = 2 * shape["vocab_size"] * shape["hidden_size"]
    tokens = shape["prompts"] * shape["tokens_of_each"]
    return Inputs(
        pass_s=stream["seconds"] * whole,
        task_s=ray["task_s"],
        dispatch_s=ray["dispatch_s"],
        fetch_mb_s=min(ray["fetch_mb_s"], NETWORK_MB_S),
        trace_mb_s=min(ray["trace_mb_s"], NETWORK_MB_S),
        weights=round((shape["parameters"] - edges) * whole + edges),
        rows_mb=tokens * shape["vocab_size"] * 4 / 1e6,
    )


def plan(given: Inputs) -> dict[str, Any]:
    """What a thousand cells on a hundred nodes come to: as it is built, without locality, and with five nodes lost."""
    runs = {
        "as_built": _Run(given, locality=True).result(),
        "without_locality": _Run(given, locality=False).result(),
        "five_nodes_lost": _Run(given, locality=True, lost=5).result(),
    }
    cells = GRID["models"] * GRID["quantizations"] * GRID["candidates"] * GRID["modes"]
    traces = cells + GRID["models"] * 2
    return {
        "nodes": NODES,
        "cells": cells,
        "inputs": asdict(given),
        "one_node_h": round(_work_s(given) / 3600, 1),
        "store_gb": round(traces * given.rows_mb / 1e3, 1),
        **runs,
    }


def _work_s(given: Inputs) -> float:
    """What one node alone would take."""
    tasks = GRID["models"] * (1 + GRID["quantizations"] * GRID["candidates"])
    passes = GRID["models"] * (2 + GRID["quantizations"] * GRID["candidates"] * GRID["modes"])
    return passes * given.pass_s + tasks * given.task_s


class _Run:
    """One simulation. Nodes take tasks as they come free; weights and traces go by one wire of the machine that asks."""

    def __init__(self, given: Inputs, *, locality: bool, lost: int = 0) -> None:
        self.given, self.locality, self.lost = given, locality, lost
        self.clock = simpy.Environment()
        self.free = simpy.FilterStore(self.clock)
        self.free.items.extend(range(NODES))
        self.scheduler, self.wire_out, self.wire_in = (simpy.Resource(self.clock) for _ in range(3))
        self.holders: dict[str, set[int]] = {}
        self.doomed = set(range(lost))
        self.weights_mb = self.traces_mb = self.busy_s = 0.0
        self.tasks = self.again = 0

    def result(self) -> dict[str, Any]:
        """Run it to its end."""
        for model in range(GRID["models"]):
            self.clock.process(self._model(model))
        self.clock.run()
        seconds = float(self.clock.now)
        return {
            "hours": round(seconds / 3600, 2),
            "busy": round(self.busy_s / (NODES * seconds), 3),
            "weights_gb": round(self.weights_mb / 1e3, 1),
            "traces_gb": round(self.traces_mb / 1e3, 1),
            "tasks": self.tasks,
            "begun_again": self.again,
            "tasks_per_s": round(self.tasks / seconds, 4),
            "scheduler_share": round(self.tasks * self.given.dispatch_s / seconds, 6),
        }

    def _model(self, model: int) -> Generator[Any, Any, None]:
        """The reference first; every candidate continues its tokens."""
        yield self.clock.process(self._task(f"{model} BF16", "BF16", 2))
        kinds = list(BYTES_PER_WEIGHT)[: GRID["quantizations"]]
        tasks = [
            self.clock.process(self._task(f"{model} {kind}", kind, GRID["modes"]))
            for kind in kinds
            for _ in range(GRID["candidates"])
        ]
        yield self.clock.all_of(tasks)

    def _task(self, weights: str, kind: str, passes: int) -> Generator[Any, Any, None]:
        """Dispatch, fetch, compute, send back; on a node that is lost half-way it begins again elsewhere."""
        while True:
            self.tasks += 1
            with self.scheduler.request() as turn:
                yield turn
                yield self.clock.timeout(self.given.dispatch_s)
            holders = self.holders.setdefault(weights, set())
            here = [node for node in self.free.items if node in holders] if self.locality else []
            chosen = here[0] if here else None
            node = yield self.free.get(lambda free, wanted=chosen: wanted is None or free == wanted)
            begun = self.clock.now
            if node not in holders:
                yield self.clock.process(self._moved(self.wire_out, self._megabytes(kind), self.given.fetch_mb_s))
                self.weights_mb += self._megabytes(kind)
                if self.locality:
                    holders.add(node)
            seconds = self.given.task_s + passes * self.given.pass_s
            if node in self.doomed:
                self.doomed.discard(node)
                yield self.clock.timeout(seconds / 2)
                self.busy_s += self.clock.now - begun
                self.again += 1
                continue
            yield self.clock.timeout(seconds)
            self.busy_s += self.clock.now - begun
            self.free.put(node)
            yield self.clock.process(self._moved(self.wire_in, passes * self.given.rows_mb, self.given.trace_mb_s))
            self.traces_mb += passes * self.given.rows_mb
            return

    def _megabytes(self, kind: str) -> float:
        return self.given.weights * BYTES_PER_WEIGHT[kind] / 1e6

    def _moved(self, wire: simpy.Resource, megabytes: float, rate: float) -> Generator[Any, Any, None]:
        with wire.request() as turn:
            yield turn
            yield self.clock.timeout(megabytes / rate)
