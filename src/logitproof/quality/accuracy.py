"""Multiple-choice accuracy, and whether two engines answer alike: flips, McNemar's test and a paired bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from logitproof.comparison.chance import bootstrap_mean, mcnemar
from logitproof.errors import ContractError
from logitproof.files.causes import cause_of
from logitproof.files.untrusted import parse_json, read_text
from logitproof.files.worded import in_words
from logitproof.quality.greedy import Rate

LETTERS = "ABCDEFGHIJ"
SHIPPED = Path(__file__).parent / "tasks"
Score = Callable[[str, str], float]
"""Log-probability in nats of a continuation after a context."""


class Question(BaseModel):
    """One question in the format of MMLU; `answer` is a letter or an index."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    question: str
    choices: list[str] = Field(min_length=2, max_length=len(LETTERS))
    answer: int | str
    subject: str = ""

    @model_validator(mode="after")
    def _answer_is_a_choice(self) -> Question:
        if not 0 <= self.index < len(self.choices):
            raise ValueError(f"the answer {self.answer!r} is none of {len(self.choices)} choices")
        return self

    @property
    def index(self) -> int:
        """Which choice is right, from 0."""
        return self.answer if isinstance(self.answer, int) else LETTERS.find(self.answer.strip().upper() or "?")

    @property
    def prompt(self) -> str:
        """The question as MMLU asks it without examples (Hendrycks et al. 2021); the answer is a space and a letter."""
        about = f" about {self.subject.replace('_', ' ')}" if self.subject else ""
        lines = [f"The following are multiple choice questions (with answers){about}.", "", self.question.strip()]
        return "\n".join(
            [*lines, *(f"{letter}. {choice}" for letter, choice in zip(LETTERS, self.choices, strict=False)), "Answer:"]
        )


@dataclass(frozen=True)
class Answers:
    """What an engine chose for each question, and how sure it was: margins in nats."""

    chosen: tuple[int, ...]
    margins: tuple[float, ...]
    right: tuple[bool, ...]

    @property
    def accuracy(self) -> Rate:
        return Rate(sum(self.right), len(self.right))


@dataclass(frozen=True)
class Paired:
    """Two engines on the same questions. `flips` counts answers that changed, whether right or wrong before."""

    flips: int
    lost: int
    won: int
    p_value: float
    difference: float
    interval: tuple[float, float]


def read_questions(path: str) -> list[Question]:
    """Questions of a shipped task by name, or of a JSON Lines file; raises ContractError with the line that is wrong."""
    shipped = SHIPPED / f"{path}.jsonl"
    file = shipped if shipped.is_file() else Path(path)
    try:
        lines = read_text(file).splitlines()
    except ContractError as error:
        names = ", ".join(sorted(task.stem for task in SHIPPED.glob("*.jsonl")))
        remedy = f"a JSON Lines file, or one of {names}"
        raise ContractError(f"cannot be read: {cause_of(error)}", where=path, remedy=remedy) from None
    questions = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                questions.append(Question.model_validate(parse_json(line, file, f"line {number}")))
            except (ContractError, ValidationError) as error:
                text = in_words(error) if isinstance(error, ValidationError) else error.text
                raise ContractError(text, where=f"{file}:{number}", remedy="question, choices, answer, as in MMLU") from None
    if not questions:
        raise ContractError("holds no question", where=str(file))
    return questions


def answer(questions: Sequence[Question], score: Score) -> Answers:
    """Let an engine answer: the letter with the highest log-probability, the first of a tie."""
    chosen, margins, right = [], [], []
    for question in questions:
        scores = [score(question.prompt, f" {LETTERS[n]}") for n in range(len(question.choices))]
        order = np.argsort([-value for value in scores], kind="stable")
        chosen.append(int(order[0]))
        margins.append(float(scores[order[0]] - scores[order[1]]))
        right.append(chosen[-1] == question.index)
    return Answers(tuple(chosen), tuple(margins), tuple(right))


def paired(reference: Answers, candidate: Answers, *, resamples: int = 2000, seed: int = 0) -> Paired:
    """Compare two engines question by question; the p-value is McNemar's, exact (binomial, two-sided)."""
    a, b = np.array(reference.right, float), np.array(candidate.right, float)
    lost, won = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    interval = bootstrap_mean(b - a, resamples=resamples, seed=seed)
    flips = sum(x != y for x, y in zip(reference.chosen, candidate.chosen, strict=True))
    return Paired(flips, lost, won, mcnemar(lost, won), float((b - a).mean()), interval)
