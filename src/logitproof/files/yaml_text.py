"""YAML as a tree of bounded size: depth, aliases and numbers are looked at while it is read, never after.

PyYAML keeps the last of two equal keys in silence, follows an alias into itself, unfolds nine lines of nine aliases into
a billion entries, and raises whatever Python raises for a date or a number that cannot be. Keys are texts here, as in
JSON, in which the schemas are published.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from logitproof.errors import ContractError
from logitproof.files.nearest import meant
from logitproof.files.untrusted import DEPTH_LIMIT, DIGITS_LIMIT, read_text
from logitproof.files.yaml_words import worded

SIZE_LIMIT = 16 << 20
"""Bytes of a YAML or TOML file; suites with token ids have some 100 KB."""
NODES_LIMIT = 2_000_000
"""Entries when every alias is written out."""
Lines = dict[tuple[str | int, ...], int]


def parse_yaml(text: str, path: Path, *, whole_keys: bool = False) -> tuple[Any, Lines]:
    """The value of a YAML text, and the line of every place in it; ContractError with the line of what cannot be."""
    loader = None
    try:
        loader = _Loader(text, whole_keys)
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), _lines(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ContractError(f"not valid YAML: {worded(str(error.problem))}", where=f"{path}:{line}", remedy=REMEDY) from None
    except yaml.YAMLError as error:
        problem = worded(" ".join(str(error).split()))
        raise ContractError(f"not valid YAML: {problem}", where=str(path), remedy=REMEDY) from None
    except (ValueError, OverflowError, RecursionError) as error:
        # A character that no text can hold, such as "\U00110000".
        line = loader.line + 1 if loader is not None else 1
        raise ContractError(f"not valid YAML: {error}", where=f"{path}:{line}", remedy=REMEDY) from None


REMEDY = "correct the file; see docs/contract.md"
KINDS = {"bool": "a truth", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
"""What YAML takes a scalar without quotes for, where it is no text: `no`, 5, 1e3, ~, 2026-12-31."""


def yaml_text(path: Path, command: str = "") -> str:
    """The text of a YAML or TOML file."""
    if not path.exists():
        raise ContractError(f"no such file{meant(path)}", where=str(path), remedy=command or "correct the path")
    return read_text(path, limit=SIZE_LIMIT, remedy=REMEDY)


class _Loader(yaml.SafeLoader):
    """A SafeLoader that counts, that takes no key twice, and to which 1e-6 is a number, as to YAML 1.2."""

    def __init__(self, text: str, whole_keys: bool) -> None:
        super().__init__(text)
        self._no_keys = {kind: words for kind, words in KINDS.items() if kind != "int" or not whole_keys}
        self._depth, self._nodes = 0, 0
        self._open: set[str] = set()
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node, if it does not stand in itself, and is neither too deep nor too much; PyYAML gives keys no index."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        node = self._bounded(event, parent, index)
        if isinstance(parent, yaml.MappingNode) and index is None and not isinstance(node, yaml.ScalarNode):
            raise _fault(event, "a list or a mapping is a key")
        if isinstance(node, yaml.ScalarNode):
            _check_text(node)
        return node

    def _bounded(self, event: yaml.Event, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        anchor, before = (event.anchor if isinstance(event, yaml.NodeEvent) else None), self._nodes
        self._count(event, 1)
        if isinstance(event, yaml.AliasEvent):
            if anchor in self._open:
                raise _fault(event, f"the alias *{anchor} stands within what it names")
            self._count(event, self._sizes.get(str(anchor), 0))
            return super().compose_node(parent, index)
        if anchor is not None:
            self._open.add(anchor)
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise _fault(event, f"lists and mappings stand more than {DEPTH_LIMIT} within one another")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if anchor is not None:
            self._open.discard(anchor)
            self._sizes[anchor] = self._nodes - before
        return node

    def _count(self, event: yaml.Event, count: int) -> None:
        self._nodes += count
        if self._nodes > NODES_LIMIT:
            raise _fault(event, f"more than {NODES_LIMIT} entries, its aliases written out")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; what Python cannot make of a scalar is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError) as error:
            kind = str(node.tag).rpartition(":")[2]
            shown = node.value[:40] if isinstance(node, yaml.ScalarNode) else "this"
            raise _fault(node, f"{shown!r} is no {kind}: {error}") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if (kind := str(key.tag).rpartition(":")[2]) in self._no_keys:
                text = f"the key {key.value!r} is {self._no_keys[kind]} to YAML, and keys are texts: put it in quotes"
                raise _fault(key, text)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} stands twice, first in line {seen[key.value]}", problem_mark=key.start_mark
                )
            seen[key.value] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)


def _check_text(node: yaml.ScalarNode) -> None:
    try:
        node.value.encode()
    except UnicodeEncodeError:
        raise yaml.MarkedYAMLError(problem="half of a character", problem_mark=node.start_mark) from None
    # Numbers of base 60 have colons, all of them may have underscores.
    digits = node.value.lstrip("+-").replace("_", "").replace(":", "")
    if len(digits) > DIGITS_LIMIT and node.style is None and str(node.tag).endswith(":int"):
        raise yaml.MarkedYAMLError(problem=f"a whole number of {len(digits)} digits", problem_mark=node.start_mark)


def _fault(place: Any, problem: str) -> yaml.MarkedYAMLError:
    """A complaint about a node or an event."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _lines(node: yaml.Node | None, at: tuple[str | int, ...] = ()) -> Lines:
    places: Lines = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inside = (*at, key.value)
            places[inside] = key.start_mark.line + 1
            places.update(_lines(value, inside))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inside = (*at, index)
            places[inside] = value.start_mark.line + 1
            places.update(_lines(value, inside))
    return places
