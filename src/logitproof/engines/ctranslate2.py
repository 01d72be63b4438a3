"""The engine `ctranslate2`: OpenNMT's CTranslate2, with models of its own format or converted from an HF folder."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

# Without it the library says nothing of the instruction set that it chose; it is read once.
os.environ.setdefault("CT2_VERBOSE", "1")

import ctranslate2
import numpy as np

from logitproof.engines import Engine, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines._exported import exported
from logitproof.errors import Refusal
from logitproof.files.untrusted import read_json, read_object

PACKAGES = ("ctranslate2", "numpy", "torch", "transformers")
EVIDENCE = ("Selected ISA", "Use Intel MKL", "SGEMM backend")
"""What CTranslate2 prints about the CPU and its kernels: the lines that are kept."""
MODEL = "model.bin"


@dataclass
class CTranslate2(Engine):
    """CTranslate2: a folder that `ct2-transformers-converter` wrote, or an HF folder, which is converted first.

    compute_type is what the weights are computed in: CTranslate2 takes another one where the CPU has no kernels for it,
    which `details` records. quantization is that of the conversion, absent for the type of the file. It has no tokenizer of
    its own. Decode feeds the tokens one by one through its constrained generation.
    """

    arithmetic: ClassVar[dict[str, Any]] = {"base": "$compute_type"}

    compute_type: Literal["float32", "int8", "int8_float32", "default", "auto"] = "float32"
    quantization: str | None = None
    threads: int = 1
    _generator: Any = field(default=None, init=False, repr=False)
    _texts: list[str] = field(default_factory=list, init=False, repr=False)
    _isa: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise Refusal(f"{self.threads} is less than 1", field="threads")

    def hello(self) -> Hello:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        forced = {name: os.environ[name] for name in ("CT2_FORCE_CPU_ISA", "CT2_USE_MKL") if name in os.environ}
        return Hello(versions=versions, tokenize=False, isa=forced)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        """Load CTranslate2's own folder, or what its own converter makes of an HF one."""
        self._generator = None
        folder = model if (model / MODEL).is_file() else self._converted(model)
        try:
            made, lines = _heard(
                lambda: ctranslate2.Generator(str(folder), compute_type=self.compute_type, intra_threads=self.threads)
            )
        except (RuntimeError, ValueError) as error:
            raise Refusal(f"CTranslate2 does not load {model.name}: {error}", field="model") from error
        self._isa |= dict(pair for line in lines if (pair := _evidence(line)))
        settings = _read(model / "config.json") | _read(model / "generation_config.json")
        self._texts = read_json(folder / "vocabulary.json")
        self._generator = made
        stops = settings.get("eos_token_id")
        return Loaded(
            vocab_size=len(self._texts),
            context_length=settings.get("max_position_embeddings"),
            bos_token_id=settings.get("bos_token_id"),
            eos_token_ids=tuple(stops) if isinstance(stops, list) else () if stops is None else (int(stops),),
            details={
                "dtype": made.compute_type,
                "asked": self.compute_type,
                "converted": folder != model,
                "ct2_config": _read(folder / "config.json"),
                "isa": self._isa,
            },
        )

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        """Logits [T, V]: `forward_batch` in one pass, or the steps of a generation that is bound to the tokens."""
        ids = self._checked(token_ids)
        if mode == "prefill":
            return Scored(np.array(self._generator.forward_batch([ids]))[0].astype(np.float32), self._isa)
        rows = self._continued(ids, len(ids), include_prompt_in_result=True)[1]
        if len(rows) != len(ids):
            raise RuntimeError(f"CTranslate2 gave {len(rows)} steps for {len(ids)} tokens")
        return Scored(rows, self._isa)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        """Greedy: beam size 1 and the best token alone; the prompt goes through the cache at once."""
        ids = self._checked(token_ids)
        if max_new_tokens < 1:
            return Generated([], np.empty((0, len(self._texts)), np.float32), "length")
        chosen, rows = self._continued(
            ids, max_new_tokens, include_prompt_in_result=False, end_token=list(stop), return_end_token=True
        )
        return Generated(chosen, rows, "stop" if chosen[-1] in stop else "length")

    def _continued(self, ids: list[int], steps: int, **options: Any) -> tuple[list[int], np.ndarray]:
        prompt = [self._texts[token] for token in ids]
        (made,) = self._generator.generate_batch(
            [prompt], max_length=steps, sampling_topk=1, return_logits_vocab=True, **{"end_token": [], **options}
        )
        return [int(token) for token in made.sequences_ids[0]], np.array([np.array(row) for row in made.logits[0]], np.float32)

    def _converted(self, model: Path) -> Path:
        if not (model / "config.json").is_file():
            text = f"{model} is neither a folder of CTranslate2 nor an HF folder"
            raise Refusal(text, field="model", remedy="CTranslate2 reads no GGUF files")
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        return exported(model, {"engine": "ctranslate2", "quantization": self.quantization, **versions}, self._convert(model))

    def _convert(self, model: Path) -> Callable[[Path], None]:
        def convert(out: Path) -> None:
            # late, since CTranslate2's own folders need no torch
            from ctranslate2.converters import TransformersConverter

            try:
                converter = TransformersConverter(str(model), trust_remote_code=False)
                converter.convert(str(out), quantization=self.quantization, force=True)
            except (ValueError, NotImplementedError, RuntimeError, OSError, KeyError, AttributeError, TypeError) as error:
                # it goes on with a list of everything that it does know
                words = str(error).partition(" (supported configurations")[0]
                text = f"CTranslate2 does not convert {model.name}: {type(error).__name__}: {words}"
                raise Refusal(text, field="model", remedy="use a family that its converter knows") from error

        return convert

    def _checked(self, token_ids: Sequence[int]) -> list[int]:
        if self._generator is None:
            raise Refusal("no model is loaded", field="model", remedy="send `load` first")
        # CTranslate2 reads outside the embedding without a word
        if wrong := [token for token in token_ids if not 0 <= token < len(self._texts)]:
            raise Refusal(f"token id {wrong[0]} is outside the vocabulary of {len(self._texts)}", field="token_ids")
        return [int(token) for token in token_ids]


def _read(file: Path) -> dict[str, Any]:
    return read_object(file) if file.is_file() else {}


def _evidence(line: str) -> tuple[str, str] | None:
    """`… - Selected ISA: AVX2` as a pair, None for other lines."""
    name, colon, value = line.rpartition("] ")[2].removeprefix(" - ").partition(": ")
    return (name, value.strip()) if colon and name in EVIDENCE else None


def _heard(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What `call` returns and the lines that it wrote to stderr, which go on to stderr."""
    sys.stderr.flush()
    own = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            made = call()
        finally:
            os.dup2(own, 2)
            os.close(own)
            file.seek(0)
            text = file.read().decode("utf-8", "replace")
            sys.stderr.write(text)
    return made, text.splitlines()
