"""Figures of generation quality keep their laws and say what they cannot know."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.comparison.chance import wilson
from logitproof.errors import ContractError
from logitproof.protocol.messages import LoadResult
from logitproof.protocol.sampler import Sampling
from logitproof.quality import greedy as free
from logitproof.quality.accuracy import Answers, Question, answer, paired, read_questions
from logitproof.quality.chat_template import compare_templates, render
from logitproof.quality.horizon import horizon
from logitproof.quality.likelihood import Likelihood
from logitproof.quality.mismatch import label_log_probabilities, mismatch
from logitproof.quality.sampled import drawn_from
from logitproof.quality.tokenizers import HARD, compare_tokenizers, shrink
from logitproof.quality.two_sample import spectrum_kernel, two_sample
from logitproof.rows.probability import softmax

SEEDS = st.integers(0, 10_000)


def parted(shared: int, length: int = 20, margin: float = 1.0) -> free.Continuation:
    ours, theirs = tuple(range(length)), tuple(range(shared)) + tuple(100 + n for n in range(length - shared))
    return free.Continuation(f"p{shared}", "b", ours, theirs, margin, 0.1)


def test_wilson_is_the_published_interval() -> None:
    low, high = wilson(95, 100)
    assert (low, high) == (pytest.approx(0.8882, abs=1e-4), pytest.approx(0.9785, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400), st.data())
def test_a_wilson_interval_holds_its_share_and_lies_in_0_to_1(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = wilson(hits, trials)
    assert -1e-12 <= low <= hits / trials + 1e-12 and hits / trials - 1e-12 <= high <= 1 + 1e-12


def test_nothing_agrees_after_a_prompt_parted() -> None:
    found = [parted(3), parted(20)]
    assert (free.token_rate(found, 10).hits, free.token_rate(found, 10).trials) == (13, 20)
    assert free.prompt_rate(found, 10).value == 0.5


def test_a_tie_is_compared_up_to_there_and_strictly_not_forgiven() -> None:
    found = [parted(3, margin=0.01), parted(20)]
    assert free.token_rate(found, 10, tie=0.1).value == 1.0
    assert free.token_rate(found, 10, tie=0.1).trials == 13
    assert free.token_rate(found, 10).value < 1.0
    assert free.token_rate(found, 10, tie=0.001).value < 1.0


def test_a_continuation_that_ended_early_is_no_match() -> None:
    short = free.Continuation("p", "b", (1, 2, 3, 4), (1, 2))
    assert short.matched(10) == (2, 4) and short.parted


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_every_prompt_stands_in_the_histogram_once(shared: list[int]) -> None:
    found = [parted(n) for n in shared]
    assert sum(free.histogram(found).values()) == len(found)
    assert free.histogram(found)["never"] == sum(not one.parted for one in found)


def test_the_worst_prompts_part_first() -> None:
    assert [one.shared for one in free.worst([parted(9), parted(2), parted(20), parted(5)])] == [2, 5, 9]


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.floats(0.2, 2), st.floats(0.3, 1))
def test_distances_of_what_is_drawn_are_0_for_equals_and_bounded(seed: int, temperature: float, top_p: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 3, (4, 30)), rng.normal(0, 3, (4, 30))
    sampling, ids = Sampling(temperature, top_p=top_p), [1, 2, 3, 4]
    same, other = drawn_from(a, a, ids, sampling), drawn_from(a, b, ids, sampling)
    assert np.allclose(same.tv, 0) and np.allclose(same.kl, 0) and np.allclose(same.kept, 1)
    assert (other.tv <= 1 + 1e-12).all() and (other.js <= np.log(2) + 1e-12).all() and (other.kl >= 0).all()


def test_a_wrong_temperature_is_seen_where_the_logits_are_scaled() -> None:
    rows = np.random.default_rng(0).normal(0, 3, (6, 50))
    assert drawn_from(rows, rows / 1.3, list(range(6)), Sampling(0.7)).tv.mean() > 0.05


def test_equal_engines_have_no_mismatch() -> None:
    p = [np.log(np.array([0.5, 0.2]))]
    found = mismatch(p, p, [[4, 5]], ["a"])
    assert (found.k1, found.k3, found.effective_samples, found.max_ratio, found.outliers) == (0, 0, 1, 1, ())


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_k3_is_never_negative_and_estimates_kl_without_bias(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = softmax(rng.normal(0, 1, 12)), softmax(rng.normal(0, 1, 12))
    drawn = rng.choice(12, 4000, p=p)
    found = mismatch([np.log(p[drawn])], [np.log(q[drawn])], [drawn.tolist()], ["a"])
    exact = float((p * np.log(p / q)).sum())
    assert found.k3 >= 0 and abs(found.k3 - exact) < 0.35 * exact + 0.1


def test_an_outlier_is_named_with_its_place() -> None:
    found = mismatch([np.log([0.5, 0.5])], [np.log([0.5, 0.01])], [[8, 9]], ["a"])
    assert [(one.prompt, one.position, one.token) for one in found.outliers] == [("a", 1, 9)]


def test_nothing_drawn_is_no_agreement() -> None:
    with pytest.raises(ValueError, match="no token"):
        mismatch([np.empty(0)], [np.empty(0)], [[]], ["a"])


def test_label_log_probabilities_are_those_of_the_row_before() -> None:
    logits = np.random.default_rng(0).normal(0, 1, (5, 9))
    found = label_log_probabilities(logits, [1, 2, 3, 4, 5], 2)
    wanted = [np.log(softmax(logits[row]))[label] for row, label in ((1, 3), (2, 4), (3, 5))]
    assert np.allclose(found, wanted)


def test_flat_noise_does_not_grow_and_drift_does() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.exponential(1e-6, 400) for _ in range(12)]
    drift = [row * np.arange(1, 401) for row in noise]
    assert not horizon(noise).grows
    assert horizon(drift).grows and horizon(drift).growth == pytest.approx(1, abs=0.3)


def test_a_jump_at_a_cache_boundary_is_found_and_only_there() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.exponential(1e-6, 300) for _ in range(12)]
    for row in rows:
        row[128:] *= 100
    found = horizon(rows, (64, 128, 256, 512))
    assert [at for at, _ in found.jumps] == [128]
    assert [at for at, _ in found.steps] == [64, 128, 256], "a boundary that no prompt reaches says nothing"


def test_short_prompts_prove_nothing_about_length() -> None:
    with pytest.raises(ValueError, match="16 positions"):
        horizon([np.ones(8)])


def completions(
    rng: np.random.Generator, p: np.ndarray, prompts: int = 6, count: int = 12, length: int = 24
) -> list[list[list[int]]]:
    return [[rng.choice(len(p), length, p=p).tolist() for _ in range(count)] for _ in range(prompts)]


def test_equal_samplers_are_rejected_as_often_as_alpha_says() -> None:
    p = softmax(np.random.default_rng(1).normal(0, 1, 40))
    values = []
    for trial in range(60):
        rng = np.random.default_rng(5000 + trial)
        values.append(two_sample(completions(rng, p), completions(rng, p), permutations=99, seed=trial).p_value)
    assert np.mean(np.array(values) <= 0.05) <= 0.12
    assert 0.3 < np.mean(values) < 0.7


def test_another_distribution_is_rejected() -> None:
    rng = np.random.default_rng(2)
    p, q = softmax(rng.normal(0, 1, 40)), softmax(rng.normal(0, 1, 40))
    assert two_sample(completions(rng, p), completions(rng, q), permutations=199).p_value < 0.01


@pytest.mark.parametrize("sides", [([], []), ([[[1], [2]]], []), ([[[1]]], [[[1], [2]]])])
def test_too_few_completions_are_no_test(sides: tuple[list[list[list[int]]], list[list[list[int]]]]) -> None:
    with pytest.raises(ValueError):
        two_sample(*sides)


def test_the_kernel_is_symmetric_and_largest_for_equal_texts() -> None:
    kernel = spectrum_kernel([[1, 2, 3], [1, 2, 3], [4, 5, 6]])
    assert np.allclose(kernel, kernel.T) and kernel[0, 1] == pytest.approx(1) and kernel[0, 2] < 0.5


def test_the_smallest_string_that_fails_is_found() -> None:
    assert shrink("some long text with a ß in it and more", lambda part: "ß" in part) == "ß"
    assert shrink("aXbYc", lambda part: "X" in part and "Y" in part) == "XY"


def test_a_tokenizer_that_composes_marks_is_told_by_one_letter() -> None:
    import unicodedata

    def plain(text: str) -> list[int]:
        return list(text.encode())

    def composed(text: str) -> list[int]:
        return list(unicodedata.normalize("NFC", text).encode())

    found = compare_tokenizers(composed, plain, [("reference", composed, lambda ids: bytes(ids).decode())])
    one = next(difference for difference in found.differences if difference.name == "composed and decomposed")
    assert len(one.smallest) == 2 and found.trips
    same = compare_tokenizers(plain, plain, [("reference", plain, lambda ids: bytes(ids).decode())])
    assert (same.differences, same.trips, same.tried) == ((), (), len(HARD) + 200)


def test_templates_that_differ_by_a_space_are_told_where() -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    assert compare_templates(template, template) == []
    found = compare_templates(template, template.replace("{{ m.content }}", "{{ m.content | trim }}"))
    assert {one.name for one in found} == {"three turns", "three turns, prompted"}
    assert "fails" in render("{{ raise_exception('no') }}", [], True)


def test_a_template_cannot_reach_python() -> None:
    assert "fails" in render("{{ ''.__class__.__mro__[1].__subclasses__() }}", [], True)


def test_answers_are_paired_question_by_question() -> None:
    left = Answers((0, 1, 2, 3), (1.0,) * 4, (True, True, False, False))
    right = Answers((0, 2, 2, 1), (1.0,) * 4, (True, False, False, True))
    found = paired(left, right)
    assert (found.flips, found.lost, found.won, found.p_value) == (2, 1, 1, 1.0)
    assert paired(left, left).flips == 0 and paired(left, left).interval == (0.0, 0.0)


def test_mcnemar_is_the_binomial_of_the_changed_ones() -> None:
    ten = Answers((0,) * 10, (1.0,) * 10, (True,) * 10)
    none = Answers((1,) * 10, (1.0,) * 10, (False,) * 10)
    assert paired(ten, none).p_value == pytest.approx(2 / 2**10)


def test_an_engine_answers_with_the_likeliest_letter() -> None:
    questions = read_questions("little")
    right = answer(questions, lambda prompt, text: 0.0 if text == f" {'ABCD'[_index(questions, prompt)]}" else -5.0)
    assert right.accuracy.value == 1.0 and len(questions) >= 20
    assert {one.index for one in questions} == {0, 1, 2, 3}


def _index(questions: list[Question], prompt: str) -> int:
    return next(one.index for one in questions if one.prompt == prompt)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"question": "q", "choices": ["a", "b"], "answer": "C"}', "none of 2 choices"),
        ('{"question": "q", "choices": ["a"], "answer": 0}', "at least 2"),
        ("not json", "Expecting value"),
    ],
)
def test_a_wrong_question_names_its_line(tmp_path: Path, line: str, text: str) -> None:
    file = tmp_path / "task.jsonl"
    file.write_text('{"question": "q", "choices": ["a", "b"], "answer": 1}\n' + line + "\n")
    with pytest.raises(ContractError, match=text) as caught:
        read_questions(str(file))
    assert caught.value.where.endswith("task.jsonl:2")


class Bigram:
    """Stands for a worker: one token a character, and the next is likelier the nearer it is to the last."""

    def __init__(self) -> None:
        self.scored: list[list[int]] = []

    def tokenize(self, text: str) -> list[int]:
        return [ord(letter) - 96 for letter in text]

    def score(self, token_ids: list[int], mode: str, path: Path) -> object:
        self.scored.append(list(token_ids))
        rows = -np.abs(np.arange(27)[None] - np.array(token_ids, np.float64)[:, None])
        return SimpleNamespace(logits=SimpleNamespace(open=lambda: rows))


def test_text_without_a_context_stands_after_the_begin_token_or_the_end_token() -> None:
    for begin, end, prefix in ((0, (9,), 0), (None, (9,), 9)):
        worker = Bigram()
        score = Likelihood(worker, LoadResult(vocab_size=27, bos_token_id=begin, eos_token_ids=list(end)))  # type: ignore[arg-type]
        rows = -np.abs(np.arange(27)[None] - np.array([prefix, 1, 2], np.float64)[:, None])
        wanted = sum(np.log(softmax(row))[token] for row, token in zip(rows, (1, 2, 3), strict=True))
        assert score.of("", "abc")[0] == score.alone("abc")[0] == pytest.approx(wanted)
        assert worker.scored[0] == [prefix, 1, 2]
        score.close()


def test_a_continuation_that_is_no_token_of_its_own_is_refused() -> None:
    score = Likelihood(Bigram(), LoadResult(vocab_size=27))  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="no token of its own"):
        score.of("abc", "")
    with pytest.raises(ContractError, match="no token that another one stands before"):
        score.alone("a")
    score.close()
