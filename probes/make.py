"""Makes the probes: `python probes/make.py [NAME...]` writes src/logitproof/acid/probes/NAME.

Weights are seeded, expected logits are computed in float64, and a probe is only written where two independent
engines agree with them; what was measured is kept in probe.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from sequences import sequences
from shape import SIZES, Shape
from shapes import SHAPES
from weights import weights
from witnesses import Disagreement, bands, witnesses
from words import VOCABULARIES, texts, tokenizer_of

from logitproof.acid.consistency import CASE, NEW_TOKENS
from logitproof.reference import float64 as wide
from logitproof.reference.cache import through_cache
from logitproof.rows.distance import distances

OUT = Path(__file__).parents[1] / "src" / "logitproof" / "acid" / "probes"
LIMIT = 1_000_000
"""Bytes that a model may have."""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=OUT.parent) as scratch:
        made = {name: make(SHAPES[name], Path(scratch) / name) for name in parser.parse_args().names or SHAPES}
        found = witnesses([Path(scratch) / name for name in made])
        refused = [name for name in made if not finish(Path(scratch) / name, *made[name], found[name], OUT)]
    return 1 if refused else 0


def make(shape: Shape, folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One probe in `folder`, without its witnesses: its record, and float64 [T, V] of each sequence."""
    model = build(shape, folder)
    cases = sequences(model, len(VOCABULARIES[shape.tokenizer].special) + 1, shape)
    truth = true_logits(folder, {case["name"]: case["token_ids"] for case in cases})
    kept = {case["name"]: truth[case["name"]][case["positions"]].astype(np.float32) for case in cases}
    save_file(kept, folder / "expected.safetensors")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    special = VOCABULARIES[shape.tokenizer].special[-1]
    record: dict[str, Any] = {
        "family": model.config.model_type,
        "exposes": shape.exposes,
        "seed": shape.seed,
        "parameters": model.num_parameters(),
        "vocab_size": model.config.vocab_size,
        "special": [special, tokenizer.convert_tokens_to_ids(special)],
        "begins_with": len(tokenizer.encode("")),
        "expected": "float64, kept as float32",
        "texts": [{"text": text, "token_ids": tokenizer.encode(text)} for text in texts(shape.tokenizer)],
        "cases": [case | {"band": {}} for case in cases],
        "witnesses": [],
    }
    write(record, folder)
    return record, truth


def finish(folder: Path, record: dict[str, Any], truth: dict[str, np.ndarray], found: list[dict[str, Any]], home: Path) -> bool:
    """Gives the probe its bands and its place in `home`; says why where its witnesses do not agree or it is too large."""
    record["witnesses"] = found
    try:
        for case, band in zip(record["cases"], bands(record, truth), strict=True):
            case["band"] = band
    except Disagreement as error:
        print(f"{folder.name}: {error}", flush=True)
        return False
    text = next(case for case in record["cases"] if case["name"] == CASE)
    if (beyond := continued(folder, text["token_ids"])) > text["band"]["float32"]:
        print(f"{folder.name}: rounding moves the greedy continuation by {beyond:.3g}, the band is {text['band']['float32']}")
        return False
    size = sum(path.stat().st_size for path in folder.glob("model*"))
    if size > LIMIT:
        print(f"{folder.name}: {size} bytes of weights, at most {LIMIT} are allowed", flush=True)
        return False
    write(record, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    shutil.rmtree(home / folder.name, ignore_errors=True)
    home.mkdir(exist_ok=True)
    shutil.move(folder, home / folder.name)
    print(
        f"{folder.name}: {size:,} bytes of weights, bands { ({case['name']: case['band'] for case in record['cases']}) }",
        flush=True,
    )
    return True


def continued(folder: Path, token_ids: list[int]) -> float:
    """The largest distance of float32 from float64 at the positions that an engine is asked to continue a sequence by.

    Their tokens are the model's own choice: where rounding is loud at one of them, an engine that is right would be blamed.
    """
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    ids, rows, cache = list(token_ids), list[np.ndarray](), None
    with torch.inference_mode():
        for new in range(NEW_TOKENS + 1):
            out, cache = through_cache(model, torch.tensor([ids[-1:] if new else ids]), cache)
            rows.append(out.logits[0, -1].numpy())
            ids.append(int(rows[-1].argmax()))
        whole = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0].numpy()
    exact = true_logits(folder, {CASE: ids[:-1]})[CASE][-NEW_TOKENS - 1 :]
    return max(float(distances(exact, given).max()) for given in (np.stack(rows), whole[-NEW_TOKENS - 1 :]))


def write(record: dict[str, Any], folder: Path) -> None:
    """probe.json, lists of numbers on one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    flat = json.JSONEncoder(ensure_ascii=False)
    for case in [*record["cases"], *record["texts"]]:
        for key in ("token_ids", "positions"):
            if key in case:
                nested = json.dumps(case[key], indent=1).replace("\n", "\n   ")
                text = text.replace(nested, flat.encode(case[key]))
    (folder / "probe.json").write_text(text + "\n", "utf-8")


def build(shape: Shape, folder: Path) -> Any:
    """The float32 model, saved in 16 bits with its tokenizer."""
    vocabulary = VOCABULARIES[shape.tokenizer]
    tokenizer = tokenizer_of(shape.tokenizer, 1024)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings = SIZES | shape.config | ids | {"vocab_size": vocabulary.size + shape.padded_rows}
    config = getattr(transformers, shape.config_class)(**settings)
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, **options).eval()
    named = dict(model.named_parameters()) | {
        name: buffer for name, buffer in model.named_buffers() if name in model.state_dict()
    }
    made = weights(shape, {name: tuple(one.shape) for name, one in named.items()}, config)
    with torch.no_grad():
        for name, values in made.items():
            named[name].copy_(torch.from_numpy(values))
    kept = torch.bfloat16 if shape.bits == 8 else torch.float16
    half = transformers.AutoModelForCausalLM.from_config(config, dtype=kept, **options)
    half.load_state_dict(model.state_dict())
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return model


def true_logits(folder: Path, token_ids: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """float64 [T, V] of each sequence, every operation in float64."""
    options = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, **options).double().eval()
    rotary = [(name, one) for name, one in model.named_modules() if type(one).__name__.endswith("RotaryEmbedding")]
    with torch.inference_mode(), wide.float64():
        for name, module in rotary:
            model.set_submodule(name, type(module)(config=module.config))
        return {name: model(torch.tensor([ids]), use_cache=False).logits[0].numpy() for name, ids in token_ids.items()}


if __name__ == "__main__":
    sys.exit(main())
