"""A GGUF file is a whole model: HF to GGUF and back gives the config, the weights and the tokenizer again, in every family."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from logitproof.errors import ContractError  # noqa: E402
from logitproof.gguf.families import ARCHITECTURES, layout_of  # noqa: E402
from logitproof.gguf.folder import RECORD, folder_of  # noqa: E402
from logitproof.gguf.settings import FAMILIES  # noqa: E402
from logitproof.gguf.tokenizer import tokenizer_keys  # noqa: E402
from logitproof.gguf.write import to_gguf  # noqa: E402
from logitproof.quality.tokenizers import HARD  # noqa: E402
from logitproof.reference.model import load  # noqa: E402
from logitproof.weights.config import read_config  # noqa: E402

ROOT = Path(__file__).parents[2]
MODELS = [
    *(folder.parent for folder in sorted(ROOT.glob("zoo/*/config.json"))),
    *(folder.parent for folder in sorted(ROOT.glob("src/logitproof/acid/probes/*/config.json"))),
]
TRAINING = {
    "initializer_range", "attention_dropout", "dtype", "pretraining_tp", "router_aux_loss_coef", "transformers_version",
    "use_cache", "max_window_layers", "resid_pdrop", "embd_pdrop", "_name_or_path", "_sliding_window_pattern", "mlp_bias",
    "output_router_logits", "full_attention_interval", "architectures", "chunk_size", "mamba_chunk_size", "residual_dropout",
}  # fmt: skip
"""Fields that change no logit of a model that was trained, or of which a layout has checked the one known value."""
FOREIGN = {"mamba2": ("intermediate_size", "num_attention_heads", "num_key_value_heads")}
"""Fields of a probe's config that its family does not have."""
FOLDED = {
    "attention_in_multiplier", "attention_out_multiplier", "embedding_multiplier", "key_multiplier", "lm_head_multiplier",
    "mlp_multipliers", "ssm_in_multiplier", "ssm_multipliers", "ssm_out_multiplier",
}  # fmt: skip
"""Factors of Falcon-H1 that a file has in its weights: read back, they are one."""
NOT_WRITTEN = {
    **dict.fromkeys(("llama-gelu", "llama4-chunked"), "llama.cpp has no such setting"),
    **dict.fromkeys(("gemma3n", "phi3.5-moe"), "unknown architecture"),
}
"""Why: llama.cpp has no such activation in a Llama, chunks of 8192 positions only, and no such Gemma 3n and Phi-3.5 MoE."""
IDS = [[5, 17, 80, 33, 2, 9, 120, 44, 7]]


@pytest.mark.parametrize(
    "folder", MODELS, ids=lambda folder: folder.name if folder.parent.name == "zoo" else f"probe-{folder.name}"
)
def test_hf_to_gguf_and_back_is_the_identity(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITPROOF_DERIVED", str(tmp_path / "derived"))
    if folder.name in NOT_WRITTEN:
        with pytest.raises(ContractError, match=NOT_WRITTEN[folder.name]):
            to_gguf(folder, tmp_path / "model.gguf", "F32")
        return
    file = to_gguf(folder, tmp_path / "model.gguf", "F32")
    derived = folder_of(file)
    different = {key for key, _ in settings(derived).items() ^ settings(folder).items()}
    folded = FOLDED if folder.name == "falcon-h1" else set()
    assert different == folded
    ours, theirs = load(folder), load(file)
    with torch.inference_mode():
        logits = [side.model(torch.tensor(IDS), use_cache=False).logits for side in (ours, theirs)]
    assert torch.allclose(*logits, rtol=0, atol=1e-5 * float(logits[0].abs().max()))
    if not folded:
        same_weights(ours.model, theirs.model)
    rows = int(read_config(folder)["vocab_size"])
    assert tokenizer_keys(derived, rows) == tokenizer_keys(folder, rows)
    composes = (json.loads((folder / "tokenizer.json").read_text("utf-8")).get("normalizer") or {}).get("type") == "NFC"
    for name, text in HARD:
        if not (composes and name in ("composed and decomposed", "stacked marks", "Hebrew with marks")):
            assert theirs.tokenize(text) == ours.tokenize(text), name
    assert json.loads((derived / RECORD).read_text("utf-8"))["unread"] == []


def settings(folder: Path) -> dict[str, str]:
    """What transformers makes of config.json, without what is of training alone and where nothing means the same as no."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    left = TRAINING | {*FOREIGN.get(config["model_type"], ())}
    left |= set() if config.get("hidden_size_per_layer_input") else {"vocab_size_per_layer_input"}
    held = {name: value for name, value in config.items() if name not in left and value not in (None, False, 0)}
    return {name: json.dumps(without_default(value), sort_keys=True) for name, value in held.items()}


def without_default(value: Any) -> Any:
    """YaRN's range is truncated where a config does not say so."""
    if not isinstance(value, dict):
        return value
    return {name: without_default(part) for name, part in value.items() if (name, part) != ("truncate", True)}


def same_weights(ours: Any, theirs: Any) -> None:
    """The same parameters, to the bit; buffers as a computation in another order gives them."""
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, before in ours.state_dict().items():
        after = theirs.state_dict()[name]
        # the file holds -exp(A_log) in float32, whose logarithm is A_log up to its last bit
        assert torch.allclose(before, after, 0, 1e-6) if "A_log" in name else torch.equal(before, after), name
    for (name, before), (_, after) in zip(*(sorted(side.named_buffers()) for side in (ours, theirs)), strict=True):
        assert torch.allclose(before, after, rtol=1e-6, atol=0), name


def test_every_family_that_is_written_is_read_and_stands_in_this_test() -> None:
    laid_out = [folder for folder in MODELS if NOT_WRITTEN.get(folder.name) != "unknown architecture"]
    configs = [read_config(folder) for folder in laid_out]
    assert {name for config in configs for name in config["architectures"]} == ARCHITECTURES.keys()
    written = [
        layout_of(config, "") for folder, config in zip(laid_out, configs, strict=True) if folder.name not in NOT_WRITTEN
    ]
    assert {layout.name for layout in written} == FAMILIES.keys()


def test_every_family_is_judged_from_its_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setenv("LOGITPROOF_DERIVED", str(tmp_path / "derived"))
    probes = [folder for folder in MODELS if folder.parent.name == "probes" and folder.name not in NOT_WRITTEN]
    models = {folder.name: str(to_gguf(folder, tmp_path / f"{folder.name}.gguf", "F32")) for folder in probes}
    prompts = [{"id": "a", "text": "The capital"}]
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"suite": "s", "max_new_tokens": 2, "prompts": prompts}))
    contract = {
        "contract": "alone", "reference": {"engine": "transformers"}, "candidates": {"llama": {"engine": "llamacpp"}},
        "models": models, "suites": ["s.yaml"], "matrix": {"mode": ["prefill", "decode"]}, "error_bar": {"vary": []},
        "bands": [{"match": 5e-2, "wrong": 5e-1, "basis": "float32, and the table of GELU in float16"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-5, "basis": "float32 on both sides"}],
    }  # fmt: skip
    (tmp_path / "c.parity.yaml").write_text(yaml.safe_dump(contract))
    argv = [sys.executable, "-m", "logitproof", "check", "c.parity.yaml", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    cells = json.loads(done.stdout)["cells"]
    assert len(cells) == 2 * len(models) and all(cell["status"] == "MATCH" for cell in cells)


def test_two_quantizations_of_one_model_in_llama_cpp_need_no_leave(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    files = {label: to_gguf(ROOT / "zoo/qwen3", tmp_path / f"{label}.gguf", label) for label in ("Q8_0", "Q4_0")}
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump({"suite": "s", "max_new_tokens": 2, "prompts": [{"id": "a", "text": "The capital"}]})
    )
    contract = {
        "contract": "two", "reference": {"engine": "llamacpp"}, "candidates": {"same": {"engine": "llamacpp"}},
        "models": {"m": {"original": str(files["Q8_0"]), "Q4_0": str(files["Q4_0"])}}, "suites": ["s.yaml"],
        "matrix": {"mode": ["prefill"], "quantization": ["Q4_0"]}, "error_bar": {"vary": []},
        "bands": [{"match": 5.0, "wrong": 9.0, "basis": "what four bits take of a small model"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": "what four bits take"}],
    }  # fmt: skip
    (tmp_path / "c.parity.yaml").write_text(yaml.safe_dump(contract))
    argv = [sys.executable, "-m", "logitproof", "check", "c.parity.yaml", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["status"] == "MATCH" and cell["counts"]["MATCH"] >= 2
