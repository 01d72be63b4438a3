"""Which experts an engine chose: asked by the taps of its routers, in a second pass over the tokens that it scored."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from logitproof.errors import EngineGarbage
from logitproof.jobs.worker import Worker
from logitproof.protocol import taps
from logitproof.protocol.messages import HelloResult, Mode, Tensor
from logitproof.rows.routing import Routing
from logitproof.traces.trace import Trace

INDEX, WEIGHTS = "moe.index", "moe.weights"
LEAVES = (INDEX, WEIGHTS)
NO_TAPS = "offers no taps of its router (moe.index and moe.weights), so nobody sees which experts it chose"
NO_ROUTER = "gave no moe.index and moe.weights: no layer of this model has a router that it taps"
REMEDY = "give whole numbers of experts and their weights, [T, k] each, for every layer that has a router"


def routed(trace: Trace, worker: Worker, hello: HelloResult, folder: Path) -> Trace:
    """The trace with what the routers chose at every position, or with the reason why that is not seen.

    Raises EngineGarbage where the taps cannot be what they are called.
    """
    if not all(_offers(hello, leaf) for leaf in LEAVES):
        return replace(trace, unrouted=NO_TAPS)
    place = folder / "taps"
    place.mkdir()
    mode: Mode = "decode" if trace.mode == "decode" else "prefill"
    tensors = worker.taps(trace.token_ids, mode, [f"layers.*.{leaf}" for leaf in LEAVES], place)
    layers = sorted({layer for name in tensors if (layer := taps.split(name)[0]) is not None})
    if not layers:
        return replace(trace, unrouted=NO_ROUTER)
    return replace(trace, routing=_routing(tensors, layers, len(trace.token_ids), worker.name))


def _offers(hello: HelloResult, leaf: str) -> bool:
    """Whether an engine lists the tap, of all layers by a pattern or of one by its number."""
    return any(fnmatch.fnmatchcase(f"layers.0.{leaf}", tap) or taps.split(tap)[1] == leaf for tap in hello.taps)


def _routing(tensors: Mapping[str, Tensor], layers: list[int], positions: int, engine: str) -> Routing:
    chosen, weights = [], []
    for layer in layers:
        names = [f"layers.{layer}.{leaf}" for leaf in LEAVES]
        if missing := [name for name in names if name not in tensors]:
            raise EngineGarbage(f"gave no {missing[0]}, and the other tap of that router", where=engine, remedy=REMEDY)
        for name in names:
            if len(shape := tensors[name].shape) != 2 or shape[0] != positions:
                text = f"{name} has shape {list(shape)}, expected [{positions}, k]"
                raise EngineGarbage(text, where=engine, remedy=REMEDY)
        index, weight = (np.asarray(tensors[name].open(), np.float64) for name in names)
        _refuse_impossible(names, index, weight, engine)
        chosen.append(index)
        weights.append(weight)
    if len({index.shape for index in chosen}) > 1:
        text = f"chooses another number of experts in some layers: {[index.shape[1] for index in chosen]}"
        raise EngineGarbage(text, where=engine, remedy=REMEDY)
    return Routing(tuple(layers), np.stack(chosen, 1).astype(np.int64), np.stack(weights, 1))


def _refuse_impossible(names: list[str], index: np.ndarray, weight: np.ndarray, engine: str) -> None:
    """Raise EngineGarbage, saying observed and allowed, unless these are numbers of experts and their weights."""
    if index.shape != weight.shape or index.shape[1] == 0:
        text = f"{names[0]} is {list(index.shape)} and {names[1]} is {list(weight.shape)}"
        raise EngineGarbage(text, where=engine, remedy=REMEDY)
    if not np.isfinite(weight).all():
        raise EngineGarbage(f"{names[1]} holds a weight that is not finite", where=engine, remedy=REMEDY)
    bad = (index < 0) | (index != np.floor(index))
    if bad.any():
        position = int(np.flatnonzero(bad.any(-1))[0])
        text = f"{names[0]} holds {float(index[bad][0]):g} at position {position}, which is no number of an expert"
        raise EngineGarbage(text, where=engine, remedy=REMEDY)
