"""Readers: file formats of logits, tokens and tensors, read into a `Dump` and, where useful, written from one.

To add one, put a file here (or in a package of yours, under the entry-point group `logitproof.readers`).
The file's name is the format's name in `logitproof convert --from NAME`; the one subclass of `Reader` in
it is the reader; its docstring is its help.

    @dataclass
    class Mine(Reader):
        "MYDUMP: char[6] magic, u32 vocabulary, token ids and float32 logits."

        def recognizes(self, peek):   return peek.head.startswith(b"MYDUMP")
        def read(self, path):         ...; return Dump((DumpedPrompt("0", ids, len(ids), positions, logits),), V)

A file is never trusted: sizes in a header are compared with the size of the file before anything is
allocated, nothing is unpickled, and `dump.checked` looks at every number afterwards. Raise
`dump.refusal(path, field, what, remedy)` for a bad file.
"""

from __future__ import annotations

import functools
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from logitproof import catalog
from logitproof.errors import ContractError
from logitproof.files.atomic import environment_errors
from logitproof.files.nearest import meant
from logitproof.files.untrusted import read_json, refusal
from logitproof.traces.dump import Dump, at_position, checked

ENDINGS = {
    ".jsonl": "ndjson",
    ".ndjson": "ndjson",
    ".npy": "npy",
    ".f32": "raw_f32",
    ".kld": "llamacpp_kl_base",
    ".safetensors": "safetensors_golden",
    ".kv": "key_value",
    ".apr": "aprrawlg",
}
"""Endings that say what to write; a file is never read by its ending."""


HEAD = 4096
JSON_LIMIT = 1 << 30
"""Bytes of the largest JSON or text file that is read: more than that belongs into a binary format."""


@dataclass(frozen=True)
class Peek:
    """What is looked at to recognize a format: the first bytes, the size, and the JSON if it is any."""

    path: Path

    @functools.cached_property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @functools.cached_property
    def head(self) -> bytes:
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(HEAD)

    @functools.cached_property
    def lines(self) -> list[str]:
        """The first lines, if the head is text."""
        text = self.head.decode("utf-8", "ignore")
        return [] if "\0" in text else text.splitlines()

    @functools.cached_property
    def json(self) -> Any:
        """The JSON value of the file, None if it is none."""
        if self.head.lstrip()[:1] not in (b"{", b"[") or self.size > JSON_LIMIT:
            return None
        try:
            return read_json(self.path, limit=JSON_LIMIT)
        except ContractError:
            return None

    @property
    def keys(self) -> set[str]:
        """The keys of the JSON object, or of the first object of a list."""
        first = self.json[0] if isinstance(self.json, list) and self.json else self.json
        return set(first) if isinstance(first, dict) else set()


class Reader:
    """One file format. Subclasses are dataclasses without options."""

    def recognizes(self, peek: Peek) -> bool:
        """Whether the content looks like this format; a name or an ending decides nothing."""
        raise NotImplementedError

    def read(self, path: Path) -> Dump:
        """The dump in the file; raises ContractError with file, field and remedy. `convert.open_dump` checks the numbers."""
        raise NotImplementedError

    def write(self, dump: Dump, path: Path) -> None:
        """Write the dump; raises ContractError for what this format cannot hold."""
        raise refusal(path, "", f"{type(self).__name__} files are read, not written", "choose another format with --to")


def convert(
    source: Path,
    target: Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    position: int | None = None,
) -> Dump:
    """Read `source`, write `target`; the formats are recognized by content, or for the target by its name's ending.

    With a `position` only the row behind that token of each prompt is written; a negative one counts from the prompt's end.
    Raises ContractError for a file that is damaged, ambiguous, or that the target's format cannot hold.
    """
    name = target_format or _format_of_name(target)
    writer: Reader = catalog.load("readers", catalog.find("readers", name, where="--to").name)()
    dump = open_dump(source, source_format)
    if position is not None:
        dump = at_position(dump, position, source)
    if target.exists() and target.is_dir():
        raise refusal(target, "", "is a folder", "name a file to write")
    with environment_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as part:
            try:
                writer.write(dump, Path(part) / target.name)
            except ContractError as error:
                where = error.where.replace(str(Path(part) / target.name), str(target))
                raise ContractError(error.text, where=where, remedy=error.remedy) from None
            for made in Path(part).iterdir():  # some formats have a second file beside the first
                os.replace(made, target.parent / made.name)
    return dump


def open_dump(path: Path, source_format: str | None = None) -> Dump:
    """The dump at `path`, every number of it checked.

    A folder that is no format of its own is read file by file into one dump.
    """
    if not path.exists():
        raise refusal(path, "", f"no such file or folder{meant(path)}", "correct the path")
    if source_format is None and path.is_dir() and not _candidates(path):
        return _open_folder(path)
    name = source_format or recognize(path)
    reader: Reader = catalog.load("readers", catalog.find("readers", name, where="--from").name)()
    return replace(checked(reader.read(path), path), format=name)


def recognize(path: Path) -> str:
    """The one format that the content looks like; none or several are an error that asks for --from."""
    candidates = _candidates(path)
    if len(candidates) == 1:
        return candidates[0]
    if path.is_file() and path.stat().st_size == 0:
        raise refusal(path, "", "is empty", "dump it again")
    if _is_pickle(path):
        text = "is a pickle: reading it would run whatever code it holds"
        remedy = "save the arrays where they are made: np.savez(path, logits=logits, token_ids=ids), or as .safetensors"
        raise refusal(path, "", text, remedy)
    known = ", ".join(candidates or catalog.entries("readers"))
    text = f"could be any of: {known}" if candidates else f"looks like no format that is known: {known}"
    raise refusal(path, "", text, "say which it is with --from")


def _is_pickle(path: Path) -> bool:
    """Whether the file begins as pickles of protocol 2 and later do; `torch.save` of old wrote them too."""
    head = Peek(path).head
    return len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _candidates(path: Path) -> list[str]:
    peek = Peek(path)
    return [name for name in catalog.entries("readers") if catalog.load("readers", name)().recognizes(peek)]


def _open_folder(folder: Path) -> Dump:
    """Every file of the folder that is a dump; sidecars belong to their arrays and are passed over."""
    parts: list[tuple[Path, Dump]] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and (candidates := _candidates(path)):
            if len(candidates) > 1:
                raise refusal(path, "", f"could be any of: {', '.join(candidates)}", "convert it by itself with --from")
            parts.append((path, open_dump(path, candidates[0])))
    if not parts:
        raise refusal(folder, "", "holds no file of a known format", "name a file and its format with --from")
    sizes = {dump.vocab_size for _, dump in parts if dump.vocab_size is not None}
    if len(sizes) > 1:
        raise refusal(folder, "vocabulary", f"differs between files: {sorted(sizes)}", "one folder, one model")
    prompts = [
        replace(prompt, id=path.stem if len(dump.prompts) == 1 else f"{path.stem}.{prompt.id}")
        for path, dump in parts
        for prompt in dump.prompts
    ]
    versions = {name: value for _, dump in parts for name, value in dump.versions.items()}
    taps = {f"{path.stem}.{name}": tap for path, dump in parts for name, tap in dump.taps.items()}
    formats = ", ".join(sorted({dump.format for _, dump in parts}))
    about = {"files": [path.name for path, _ in parts]}
    return checked(Dump(tuple(prompts), next(iter(sizes), None), versions, about, taps, f"folder of {formats}"), folder)


def _format_of_name(target: Path) -> str:
    if target.suffix not in ENDINGS:
        raise ContractError(
            f"does not say which format to write (known endings: {', '.join(ENDINGS)})",
            where=str(target),
            remedy="name the format with --to; `logitproof list readers` shows them",
        )
    return ENDINGS[target.suffix]
