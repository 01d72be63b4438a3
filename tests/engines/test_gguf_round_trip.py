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

from logitproof.files.gguf import GgufFile  # noqa: E402
from logitproof.gguf.folder import RECORD, folder_of  # noqa: E402
from logitproof.gguf.settings import FAMILIES, UnknownArchitecture  # noqa: E402
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
    "output_router_logits", "full_attention_interval", "architectures",
}  # fmt: skip
"""Fields that change no logit of a model that was trained, or of which a layout has checked the one known value."""


@pytest.mark.parametrize(
    "folder", MODELS, ids=lambda folder: folder.name if folder.parent.name == "zoo" else f"probe-{folder.name}"
)
def test_hf_to_gguf_and_back_is_the_identity(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITPROOF_DERIVED", str(tmp_path / "derived"))
    if read_config(folder).get("hidden_act") == "gelu" or folder.name == "llama4-chunked":
        pytest.skip("llama.cpp has no such activation, or chunks of 8192 positions only: it is not written as GGUF")
    file = to_gguf(folder, tmp_path / "model.gguf", "F32")
    if GgufFile(file).value("general.architecture") not in FAMILIES:
        with pytest.raises(UnknownArchitecture, match="whose config is not known"):
            folder_of(file)
        return
    derived = folder_of(file)
    assert settings(derived) == settings(folder)
    ours, theirs = load(folder), load(file)
    for (name, before), (other, after) in zip(
        *(sorted(side.model.state_dict().items()) for side in (ours, theirs)), strict=True
    ):
        # the file holds -exp(A_log) in float32, whose logarithm is A_log up to its last bit
        assert name == other and (torch.allclose(before, after, 0, 1e-6) if "A_log" in name else torch.equal(before, after)), (
            name
        )
    for (name, before), (_, after) in zip(*(sorted(side.model.named_buffers()) for side in (ours, theirs)), strict=True):
        assert torch.allclose(before, after, rtol=1e-6, atol=0), name
    rows = int(read_config(folder)["vocab_size"])
    assert tokenizer_keys(derived, rows) == tokenizer_keys(folder, rows)
    composes = (json.loads((folder / "tokenizer.json").read_text("utf-8")).get("normalizer") or {}).get("type") == "NFC"
    for name, text in HARD:
        if not (composes and name in ("composed and decomposed", "stacked marks", "Hebrew with marks")):
            assert theirs.tokenize(text) == ours.tokenize(text), name
    assert json.loads((derived / RECORD).read_text("utf-8"))["unread"] == []


def settings(folder: Path) -> dict[str, Any]:
    """What transformers makes of config.json, without what is of training alone and where nothing means the same as no."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    return {name: value for name, value in config.items() if name not in TRAINING and value not in (None, False, 0)}


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
