"""Makes one model of the zoo: `python zoo/train.py NAME [--out DIR]`.

Everything follows from the seed in `families.py` and the text in `zoo/corpus`. The bytes repeat on the same
machine and versions; another processor sums in another order and ends with other, equally good weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
from pathlib import Path

import torch
import transformers
from documents import pack, read_documents, sha256_of_corpus, split_documents
from families import FAMILIES, Family
from report import greedy_samples, measure
from training import WINDOW, train
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from vocabulary import train_tokenizer, wrap_tokenizer

NORM_SPREAD = 0.1  # norm weights start at N(their value, this): norms of ones would hide a skipped norm


def build_model(family: Family, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The untrained model, with spread norms and biases."""
    end = tokenizer.eos_token_id
    config = getattr(transformers, family.config_class)(
        **family.config,
        vocab_size=len(tokenizer) + family.padded_rows,
        architectures=[family.architecture],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        pad_token_id=end,
        **family.options,
    )
    model = getattr(transformers, family.architecture)(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.add_(torch.randn_like(weight) * NORM_SPREAD)
            elif name.endswith("proj.bias"):
                weight.copy_(torch.randn_like(weight) * family.bias_spread)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> list[list[int]]:
    """Token ids of every document, with the begin-of-text token where the family has one."""
    return [tokenizer(text)["input_ids"] for text in documents]


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, family: Family, out: Path) -> None:
    """bfloat16 weights, as real models ship; options that only training needs are left out of the config."""
    for option in family.options:
        setattr(model.config, option, False)
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone
    tokenizer.save_pretrained(out)


def record(name: str, out: Path, streams: dict[str, list[int]], run: dict[str, object]) -> dict[str, object]:
    """Everything worth knowing about the model as saved: read back and computed in float32."""
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, trust_remote_code=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    return {
        "name": name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        **run,
        "corpus_sha256": sha256_of_corpus(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__},
        "measured": {part: measure(model, stream, WINDOW) for part, stream in streams.items()},
        "greedy": greedy_samples(model, tokenizer),
    }


def make(name: str, out: Path, steps: int | None = None) -> dict[str, object]:
    """Trains the model `name` into the folder `out`; returns what TRAINING.json holds."""
    family = FAMILIES[name]
    print(f"{name}: seed {family.seed}")
    random.seed(family.seed)
    torch.manual_seed(family.seed)
    train_documents, held_out = split_documents(read_documents())
    learned = train_tokenizer(family.vocabulary, train_documents)
    tokenizer = wrap_tokenizer(family.vocabulary, learned, family.config["max_position_embeddings"])
    end = tokenizer.eos_token_id
    shuffled = pack(encode(tokenizer, train_documents), end, random.Random(family.seed))
    streams = {"train": shuffled[: 64 * WINDOW], "held_out": pack(encode(tokenizer, held_out), end)}
    print(f"{len(shuffled)} training tokens, {len(streams['held_out'])} held out")
    model = build_model(family, tokenizer)
    steps = steps or family.steps
    run = train(model, shuffled, steps, family.seed, lambda line: print(f"{name}: {line}", flush=True))
    save(model, tokenizer, family, out)
    facts = {"seed": family.seed, "steps": steps, "seconds": round(run.seconds), "training_loss": run.loss}
    return record(name, out, streams, facts)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(FAMILIES))
    parser.add_argument("--out", type=Path, help="folder to write (default: zoo/NAME)")
    parser.add_argument("--steps", type=int, help="another number of steps, for a quick trial")
    arguments = parser.parse_args()
    out = arguments.out or Path(__file__).parent / arguments.name
    torch.set_num_threads(1)  # one thread sums in one order
    facts = make(arguments.name, out, arguments.steps)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (out / "TRAINING.json").write_text(text, encoding="utf-8")
    print(json.dumps(facts["measured"], indent=1))
    for sample in facts["greedy"]:
        print(f"--- {sample['prompt']!r} loops: {sample['loops']}\n{sample['text']}")


if __name__ == "__main__":
    main()
