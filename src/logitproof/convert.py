"""Dumps in, dumps out: any format that a reader knows into any that one writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from logitproof import catalog
from logitproof.dump import Dump, checked, refusal
from logitproof.errors import ContractError
from logitproof.readers import Peek, Reader
from logitproof.store import environment_errors


def convert(source: Path, target: Path, *, source_format: str | None = None, target_format: str | None = None) -> Dump:
    """Read `source`, write `target`; the formats are recognized by content, or for the target by its name's ending.

    Raises ContractError for a file that is damaged, ambiguous, or that the target's format cannot hold.
    """
    name = target_format or _format_of_name(target)
    writer: Reader = catalog.load("readers", catalog.find("readers", name, where="--to").name)()
    dump = open_dump(source, source_format)
    if target.exists() and target.is_dir():
        raise refusal(target, "", "is a folder", "name a file to write")
    with environment_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        existed = target.exists()
        try:
            writer.write(dump, target)
        except BaseException:
            if not existed:
                target.unlink(missing_ok=True)  # half a file would be taken for a whole one
            raise
    return dump


def open_dump(path: Path, source_format: str | None = None) -> Dump:
    """The dump at `path`, every number of it checked.

    A folder that is no format of its own is read file by file into one dump.
    """
    if not path.exists():
        raise refusal(path, "", "no such file or folder", "correct the path")
    if source_format is None and path.is_dir() and not _candidates(path):
        return _open_folder(path)
    name = source_format or recognize(path)
    reader: Reader = catalog.load("readers", catalog.find("readers", name, where="--from").name)()
    return replace(checked(reader.read(path), path), format=name)


def recognize(path: Path) -> str:
    """The one format that the content looks like; none or several are an error that asks for --from."""
    found = _candidates(path)
    if len(found) == 1:
        return found[0]
    if path.is_file() and path.stat().st_size == 0:
        raise refusal(path, "", "is empty", "dump it again")
    known = ", ".join(found or catalog.entries("readers"))
    text = f"could be any of: {known}" if found else f"looks like no format that is known: {known}"
    raise refusal(path, "", text, "say which it is with --from")


def _candidates(path: Path) -> list[str]:
    peek = Peek(path)
    return [name for name in catalog.entries("readers") if catalog.load("readers", name)().recognizes(peek)]


def _open_folder(folder: Path) -> Dump:
    """Every file of the folder that is a dump; sidecars belong to their arrays and are passed over."""
    parts: list[tuple[Path, Dump]] = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and (found := _candidates(path)):
            if len(found) > 1:
                raise refusal(path, "", f"could be any of: {', '.join(found)}", "convert it by itself with --from")
            parts.append((path, open_dump(path, found[0])))
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


def _format_of_name(target: Path) -> str:
    if target.suffix not in ENDINGS:
        raise ContractError(
            f"does not say which format to write (known endings: {', '.join(ENDINGS)})",
            where=str(target),
            remedy="name the format with --to; `logitproof list readers` shows them",
        )
    return ENDINGS[target.suffix]
