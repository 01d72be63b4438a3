"""A GGUF file is a whole model: HF to GGUF and back gives the config, the weights and the tokenizer again, in every family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from logitproof.gguf.folder import RECORD, folder_of  # noqa: E402
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
    if read_config(folder).get("hidden_act") == "gelu":
        pytest.skip("llama.cpp has no Llama with this activation: it is not written as GGUF")
    file = to_gguf(folder, tmp_path / "model.gguf", "F32")
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
