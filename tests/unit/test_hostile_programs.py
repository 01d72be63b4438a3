"""What of a model is a program: chat templates and expressions end, are bounded, and whatever they raise is told."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.history import CrossReference, reference_problem
from logitproof.errors import ContractError, ModelError
from logitproof.files.patterns import SECONDS, fits
from logitproof.files.safetensors import Tensors, write_tensors
from logitproof.quality import chat_template
from logitproof.quality.chat_template import compare_templates, render
from logitproof.readers import open_dump
from logitproof.weights.adapter import read_adapter
from logitproof.weights.model import weight_files

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' * 10**10 }}", "MemoryError"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}", "more than 1048576 characters"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
        ("{% include 'x' %}", "no loader"),
        ("{{ [].append.__globals__ }}", "unsafe"),
        ("{{ messages[0].content.encode('utf-8').decode('ascii', 'no such way') + 1 }}", "TypeError"),
        ("{{ '\\ud800' }}", "(the template fails:"),
    ],
)
def test_a_template_that_fails_says_how(template: str, words: str) -> None:
    text = render(template, HI, True)
    assert text.startswith(chat_template.FAILS)
    assert words in text
    assert len(text) < 1000


def test_a_template_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 2.0)
    begin = time.monotonic()
    text = render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", HI, True)
    assert "does not end within 2 s" in text
    assert time.monotonic() - begin < 60


def test_two_templates_that_render_nothing_are_not_alike() -> None:
    assert len(compare_templates("{{ 1 / 0 }}", "{{ 2 / 0 }}")) == 6
    sound = "{{ messages[0].content }}"
    assert compare_templates(sound, sound + "{# a remark #}") == []
    # Many models refuse a system prompt: where both do, and else say the same, they are alike.
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + sound
    assert compare_templates(refuses, refuses + "{# a remark #}") == []
    assert len(compare_templates(refuses, sound)) == 2


@pytest.mark.parametrize("pattern", ["(.|.)*q_pro", "(", "a{2}{3}", "x" * 1001, 5, None])
def test_an_expression_is_matched_soon_or_refused(pattern: object) -> None:
    begin = time.monotonic()
    with pytest.raises(ValueError, match="expression|is no text|within"):
        fits(pattern, "model.layers.0.self_attn.q_proj" + "a" * 60)
    assert time.monotonic() - begin < 20 * SECONDS


def test_an_expression_fits_the_whole_text() -> None:
    assert fits(r".*\.(q|v)_proj", "layers.0.q_proj")
    assert not fits("q_proj", "layers.0.q_proj")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    pair: Tensors = {f"{name}A.weight": np.ones((2, 4), np.float32), f"{name}B.weight": np.ones((4, 2), np.float32)}
    write_tensors(tmp_path / "adapter_model.safetensors", pair, {})
    return tmp_path


@pytest.mark.parametrize(
    "config",
    [
        {"rank_pattern": {"(.|.)*q_pro": 3}},
        {"alpha_pattern": {"(": 3}},
        {"alpha_pattern": {"q_proj": 1e999}},
        {"rank_pattern": ["q_proj"]},
        {"target_modules": "("},
        {"target_modules": 5},
        {"target_modules": ["q_proj", 5]},
        {"exclude_modules": {"q_proj": 1}},
        {"layers_to_transform": "0"},
    ],
)
def test_an_adapter_with_an_expression_that_cannot_be_is_refused(adapter: Path, config: dict[str, Any]) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}))
    with pytest.raises(ModelError) as raised:
        read_adapter(adapter)
    assert str(path) in str(raised.value)
    assert next(iter(config)) in str(raised.value)
    assert raised.value.remedy


def test_an_adapter_with_sound_expressions_has_their_scale(adapter: Path) -> None:
    config = {"r": 8, "lora_alpha": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.\d+\.self_attn\.q_proj": 6}}
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "target_modules": r".*\.(q|v)_proj"}))
    (pair,) = read_adapter(adapter).values()
    assert pair.scale == 3.0


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a" * 20 + b"\xed\xa0\x80"])
def test_a_corpus_that_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    (tmp_path / "corpus.txt").write_bytes(data)
    words = [
        "tokenizer",
        f"toy:{tmp_path}/toy.json",
        f"toy:{tmp_path}/toy.json?seed=2",
        "--corpus",
        str(tmp_path / "corpus.txt"),
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert "corpus.txt" in done.output and "not UTF-8" in done.output


def test_a_mirror_that_is_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mirror.md")
    reference = CrossReference.model_validate({"id": "c", "source": "elsewhere", "sha256": "0" * 64, "mirror": "mirror.md"})
    assert reference_problem(reference, tmp_path) == "the mirror mirror.md is no regular file"


@pytest.mark.parametrize("token", ["-1", "2147483648", "9223372036854775808"])
def test_a_token_id_that_no_vocabulary_has_is_refused(tmp_path: Path, token: str) -> None:
    asked = {"prompt_token_ids": [1, 2], "prompt_logprobs": [None, {token: {"logprob": -1.0, "rank": 1}}]}
    (tmp_path / "dump.json").write_text(json.dumps([asked]))
    with pytest.raises(ContractError, match="token id is no whole number"):
        open_dump(tmp_path / "dump.json", "vllm_prompt_logprobs")


def test_a_shard_with_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x" * 5000 + ".safetensors"}}))
    with pytest.raises(ModelError, match="lacks the shard xxx"):
        weight_files(tmp_path)
