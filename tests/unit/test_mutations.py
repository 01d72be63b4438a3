"""The library of known bugs: names for good, one sentence each, and what is read from syntax is what classes say."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from logitproof import catalog
from logitproof.commands import _listing as listing
from logitproof.errors import ContractError
from logitproof.mutations import Mutation, Record, swept

ENTRIES = catalog.entries("mutations")
FOLDER = Path(catalog.__file__).parent / "mutations"
FILES = sorted(path for path in FOLDER.rglob("*.py") if not path.name.startswith("_"))
MOST_FILES = 64
OLDER = frozenset((Path(__file__).parent / "mutation_ids.txt").read_text("utf-8").split())
UNSOURCED = {
    "attention": 1,
    "deltanet": 17,
    "embedding": 5,
    "head": 3,
    "mlp": 6,
    "moe": 4,
    "norm": 7,
    "numerics": 1,
    "rope": 4,
    "tokenizer": 2,
    "weights": 2,
}
"""Older bugs for which no public thread is known, by family: typed by hand, and they only fall."""
ONE = '''
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation

@dataclass
class Lonely(Mutation):
    """A bug of its own."""

    bug: ClassVar[str] = "one of its own"
    shows: ClassVar[str] = "everywhere"
    remedy: ClassVar[str] = "none"
    needs: ClassVar[str] = "decode"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"by": (2, 3)}

    by: int = 2
'''
SEVERAL = '''
from dataclasses import dataclass

from logitproof.mutations import Mutation, Record, swept

@dataclass
class _Shared(Mutation):
    needs = "decode"
    layer: int = swept(0, grid=(0, 1))

class First(_Shared, id="house.first"):
    """The first
    bug.

    More of it.
    """

    record = Record(shows="a" "b", remedy="c", seen_in=("project #1",))
    by: float = swept(0.5, grid=(0.5, 2.0), between=(0.1, 8.0))

class Second(_Shared, id="house.second"):
    """The second bug."""

    record = Record(shows="d", remedy="e", needs="tokenizer", exchanges=("mlp.gate", "mlp.up"))
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs modules whose text is given as a package that registers each of them as known bugs."""

    def install(**modules: str) -> None:
        info = tmp_path / "bugs_of_a_house-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bugs-of-a-house\nVersion: 1.0\n")
        points = "".join(f"{name} = {name}\n" for name in modules)
        (info / "entry_points.txt").write_text(f"[logitproof.mutations]\n{points}")
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        catalog._entries.cache_clear()

    yield install
    catalog._entries.cache_clear()


def test_names_stay_what_users_have_written_down() -> None:
    assert len(OLDER) == 258 and not OLDER - set(ENTRIES)


def test_every_bug_is_found_by_a_search_for_its_name() -> None:
    written = Counter(name for path in FILES for name in re.findall(r', id="([^"]*)"\):', path.read_text("utf-8")))
    assert written == Counter(list(ENTRIES))


def test_a_bug_stands_in_the_folder_of_its_family() -> None:
    assert not [name for name, entry in ENTRIES.items() if entry.file.parent != FOLDER / name.partition(".")[0]]


def test_a_file_is_a_mechanism_and_not_a_bug() -> None:
    assert len(FILES) <= MOST_FILES < len(ENTRIES) / 5


def test_every_bug_says_what_it_is_how_it_shows_and_what_to_do() -> None:
    kinds = {name: catalog.load("mutations", name) for name in ENTRIES}
    assert not [name for name, kind in kinds.items() if not (kind.bug and kind.shows and kind.remedy and kind.first_tap)]
    assert not [name for name, kind in kinds.items() if not kind.bug.endswith(".") or kind.bug.count(". ")]
    assert {name: kind.id for name, kind in kinds.items()} == {name: name for name in ENTRIES}


def test_no_two_bugs_of_a_family_are_one_sentence() -> None:
    sentences = Counter((name.partition(".")[0], catalog.load("mutations", name).bug.lower()) for name in ENTRIES)
    assert [sentence for sentence, count in sentences.items() if count > 1] == []


def test_a_source_is_a_project_and_mostly_a_number() -> None:
    sources = [source for name in ENTRIES for source in catalog.load("mutations", name).seen_in]
    assert sources and all(source.strip() == source and source for source in sources)
    assert sum(bool(re.fullmatch(r"[\w.\-/' ]+ #\d+", source)) for source in sources) > 0.8 * len(sources)


def test_ever_fewer_older_bugs_have_no_public_source() -> None:
    unsourced = sorted(name for name in OLDER if not catalog.load("mutations", name).seen_in)
    counts = Counter(name.partition(".")[0] for name in unsourced)
    more = {family for family, count in counts.items() if count > UNSOURCED.get(family, 0)}
    assert not more, [name for name in unsourced if name.partition(".")[0] in more]


def test_no_bug_names_a_source_twice() -> None:
    sources = {name: Counter(catalog.load("mutations", name).seen_in) for name in ENTRIES}
    assert not [name for name, counts in sources.items() if any(count > 1 for count in counts.values())]


@pytest.mark.parametrize(("name", "line"), [("rope.base", "litgpt #2217"), ("rope.cos_sin_swapped", listing.UNSOURCED)])
def test_a_bug_says_where_it_was_seen_or_that_nobody_is_known_to_have_seen_it(name: str, line: str) -> None:
    text = "\n".join(line.text for part in listing.record_document(listing.mutation(name)).sections for line in part.lines)
    assert re.search(rf"^seen in: +{re.escape(line)}", text, re.MULTILINE)


@pytest.mark.parametrize("name", ENTRIES)
def test_what_is_read_without_importing_is_what_the_class_says(name: str) -> None:
    kind, entry = catalog.load("mutations", name), ENTRIES[name]
    for key in ("bug", "shows", "seen_in", "first_tap", "remedy", "needs", "equivalent", "grid", "exchanges"):
        assert entry.record.get(key) == getattr(kind, key) or (key, getattr(kind, key)) in (("grid", {}), ("exchanges", None))
    fields = [field for field in dataclasses.fields(kind) if field.init]
    assert entry.option_names == [field.name for field in fields]
    assert [option.type for option in entry.options] == [str(field.type) for field in fields]
    assert [_value(option.default) for option in entry.options] == [field.default for field in fields]
    assert set(kind.ranges) | set(kind.grid) <= set(entry.option_names)


def test_a_module_with_several_bugs_is_a_plugin(plugin: Callable[..., None]) -> None:
    plugin(several=SEVERAL)
    entry, kind = catalog.find("mutations", "house.first"), catalog.load("mutations", "house.first")
    assert [(option.name, option.type, option.default) for option in entry.options] == [
        ("layer", "int", "0"),
        ("by", "float", "0.5"),
    ]
    assert kind(by=2.0) == kind(layer=0, by=2.0) and kind.ranges == {"by": (0.1, 8.0)}
    assert kind.grid == entry.record["grid"] == {"layer": (0, 1), "by": (0.5, 2.0)}
    shown = listing.mutation("house.first")
    assert (shown["bug"], shown["shows"], shown["needs"], shown["seen_in"]) == (kind.bug, "ab", "decode", ("project #1",))
    other = catalog.load("mutations", "house.second")
    assert kind.bug == "The first bug." and (other.needs, other.exchanges) == ("tokenizer", ("mlp.gate", "mlp.up"))


def test_a_module_with_a_single_bug_is_a_plugin_named_as_it_is(plugin: Callable[..., None]) -> None:
    plugin(lonely_bug=ONE)
    kind, shown = catalog.load("mutations", "lonely_bug"), listing.mutation("lonely_bug")
    assert (kind.bug, kind.needs, kind.grid, kind().by) == ("one of its own", "decode", {"by": (2, 3)}, 2)
    assert {key: shown[key] for key in ("bug", "shows", "needs", "grid")} == {
        "bug": kind.bug,
        "shows": "everywhere",
        "needs": "decode",
        "grid": {"by": (2, 3)},
    }
    assert shown["options"] == [{"name": "by", "type": "int", "default": "2"}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SEVERAL.replace("house.second", "house.first"), "two classes claim the name 'house.first' in mutations: First in"),
        (SEVERAL.replace("house.second", "rope.base"), "two classes claim the name 'rope.base'"),
        (SEVERAL.replace(', id="house.second"', ""), "the class Second has no id, the other entries of this file have one"),
        (SEVERAL.replace('"house.second"', '"house" + ".second"'), "the id of the class Second is not written out"),
        (ONE.replace("Lonely", "_Lonely"), "this file has 0"),
    ],
)
def test_an_entry_without_a_name_of_its_own_is_an_error(plugin: Callable[..., None], text: str, told: str) -> None:
    plugin(wrong=text)
    with pytest.raises(ContractError) as error:
        catalog.entries("mutations")
    assert told in error.value.text and error.value.remedy


def test_a_mechanism_is_no_bug_and_hands_down_what_it_says() -> None:
    class Shared(Mutation):
        needs = "decode"
        first_tap = "logits"

    class Bug(Shared, id="test.bug"):
        """A bug."""

        record = Record(shows="s", remedy="r")
        by: int = swept(1, grid=(1, 2))

    class Other(Shared, id="test.other"):
        """Another one."""

        record = Record(shows="s", remedy="r", first_tap="embedding", needs="tokenizer")

    assert not dataclasses.is_dataclass(Shared) and Shared.id == ""
    assert (Bug.needs, Bug.first_tap, Bug.bug, Bug.grid, Bug(2).by) == ("decode", "logits", "A bug.", {"by": (1, 2)}, 2)
    assert (Other.needs, Other.first_tap, Other.grid, Mutation.grid) == ("tokenizer", "embedding", {}, {})


def _value(written: str | None) -> Any:
    """A default as written, as a value; each is a number or a string."""
    assert written is not None
    return ast.literal_eval(written)
