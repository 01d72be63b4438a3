"""Many passes through one model at once, each of its layers for all of them before the next: `Layerwise(model, weights)`.

The model's own code runs unchanged, one thread a sequence. Where it calls a layer, an embedding, a norm or the head, the
thread waits until this part's weights are there, and the part is computed in the thread that reads them. Exactly one thread
runs at any time, so that nothing is computed otherwise than in a pass of its own.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Pass = Callable[[], Any]
Weights = Callable[[str, torch.nn.Module, "list[Call]"], Any]
"""A context manager that fills a part's weights for these calls."""


@dataclass(eq=False)
class Call:
    """A call of a part by one sequence, which waits for its result."""

    sequence: int
    part: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    answer: queue.SimpleQueue[tuple[Any, BaseException | None]] = field(default_factory=queue.SimpleQueue)


@dataclass(frozen=True)
class Ended:
    """A sequence whose pass has come to its end: what it gave, or the error that it ended with."""

    sequence: int
    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Entered:
    """The weights of this part are there and it is computed."""

    part: str


class Layerwise:
    """The parts of a model, each of which waits for its weights while `passes` runs."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.parts = dict(parts_of(model))
        self._own = threading.local()
        for name, part in self.parts.items():
            part.forward = self._waiting(name, part.forward)

    def passes(self, functions: Sequence[Pass], weights: Weights, within: Callable[[], Any]) -> Iterator[Ended | Entered]:
        """Run every function to its end and say what each gave; `within` makes the context that a thread computes in."""
        round_of_passes = _Round()
        try:
            for number, function in enumerate(functions):
                round_of_passes.start(lambda: self._run(round_of_passes, number, function, within))  # noqa: B023
                yield from round_of_passes.heard()
            while round_of_passes.waiting:
                calls = round_of_passes.next_calls()
                part = calls[0].part
                yield Entered(part)
                try:
                    with weights(part, self.parts[part], calls):
                        for call in calls:
                            call.answer.put(_computed(call))
                            yield from round_of_passes.heard(call)
                except Exception as error:
                    for call in round_of_passes.unanswered(calls):
                        call.answer.put((None, error))
                        yield from round_of_passes.heard(call)
        finally:
            round_of_passes.give_up()

    def _run(self, round_of_passes: _Round, number: int, function: Pass, within: Callable[[], Any]) -> None:
        self._own.round, self._own.sequence = round_of_passes, number
        try:
            with within():
                result = function()
        except BaseException as error:
            round_of_passes.news.put(Ended(number, error=error))
        else:
            round_of_passes.news.put(Ended(number, result))

    def _waiting(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def handed_over(*arguments: Any, **named: Any) -> Any:
            round_of_passes = getattr(self._own, "round", None)
            if round_of_passes is None:  # called by what computes here already
                return forward(*arguments, **named)
            if round_of_passes.is_left:
                raise GivenUp("the other passes were given up")
            call = Call(self._own.sequence, name, forward, arguments, named)
            round_of_passes.news.put(call)
            result, error = call.answer.get()
            if error is not None:
                raise error
            return result

        return handed_over


class GivenUp(Exception):
    """Whoever asked for the passes no longer wants them."""


class _Round:
    """Passes that run together: who waits for which part, and what the thread that runs says next."""

    def __init__(self) -> None:
        self.news: queue.SimpleQueue[Call | Ended] = queue.SimpleQueue()
        self.waiting: list[Call] = []
        self.is_left = False
        self._order: dict[str, int] = {}
        self._asked: list[Call] = []
        self._threads: list[threading.Thread] = []

    def start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def heard(self, answered: Call | None = None) -> Iterator[Ended]:
        """Wait until the thread that runs, the one that was answered, waits again or has ended."""
        if answered is not None:
            self._asked.remove(answered)
        news = self.news.get()
        if isinstance(news, Ended):
            yield news
        else:
            self._order.setdefault(news.part, len(self._order))
            self.waiting.append(news)
            self._asked.append(news)

    def next_calls(self) -> list[Call]:
        """All calls of the part that was first come to of those that are waited for."""
        part = min((call.part for call in self.waiting), key=self._order.__getitem__)
        calls = [call for call in self.waiting if call.part == part]
        self.waiting = [call for call in self.waiting if call.part != part]
        return calls

    def unanswered(self, calls: list[Call]) -> list[Call]:
        return [call for call in calls if call in self._asked]

    def give_up(self) -> None:
        """End every thread that still waits."""
        self.is_left = True
        for call in self._asked:
            call.answer.put((None, GivenUp("the other passes were given up")))
        for thread in self._threads:
            thread.join()


def parts_of(model: torch.nn.Module, prefix: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """Every layer, and every other module that holds weights, by name; together they hold all weights of the model."""
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, torch.nn.ModuleList):
            yield from ((f"{path}.{number}", item) for number, item in enumerate(child) if _holds(item))
        elif any(True for _ in child.parameters(recurse=False)):
            yield path, child
        else:
            yield from parts_of(child, f"{path}.")


def _holds(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _computed(call: Call) -> tuple[Any, BaseException | None]:
    try:
        return call.function(*call.arguments, **call.named), None
    except BaseException as error:
        return None, error
