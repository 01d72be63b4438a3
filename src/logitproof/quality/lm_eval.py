"""Any logitproof engine as a model of lm-evaluation-harness, which is no dependency: `pip install lm-eval`."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed, did_you_mean
from logitproof.jobs.session import opened
from logitproof.jobs.spec import Side
from logitproof.jobs.worker import Worker
from logitproof.jobs.workers import Workers
from logitproof.quality.likelihood import Likelihood

LENGTH = 256
"""Tokens that the harness lets a model write where a task says nothing."""


def run_tasks(side: Side, tasks: list[str], limit: int | None = None, include_path: str | None = None) -> dict[str, Any]:
    """Run tasks of the harness on one engine; returns its `results`. Raises EnvironmentFailed where it is not installed."""
    try:
        harness = importlib.import_module("lm_eval")
        manager = importlib.import_module("lm_eval.tasks").TaskManager(include_path=include_path)
    except ImportError as error:
        raise EnvironmentFailed(f"lm-evaluation-harness is not here: {error}", remedy="pip install lm-eval") from None
    for task in tasks:
        if task not in manager.all_tasks:
            near = did_you_mean(task, list(manager.all_tasks))
            raise ContractError(f"no task is called {task!r}{near}", where="--lm-eval", remedy="--include-path for your own")
    with Workers() as workers:
        worker, loaded = opened(workers, side)
        score = Likelihood(worker, loaded)
        try:
            model = _model(score, worker, list(loaded.eos_token_ids))
            outcome = harness.simple_evaluate(model=model, tasks=tasks, limit=limit, task_manager=manager, bootstrap_iters=0)
        finally:
            score.close()
    return dict(outcome["results"])


def _model(score: Likelihood, worker: Worker, stop: list[int]) -> Any:
    """An instance of the harness's model class, made when the harness is there."""
    base = importlib.import_module("lm_eval.api.model").LM

    class Engine(base):  # type: ignore[misc, valid-type]
        """Log-likelihoods and greedy text through a worker."""

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            return [score.of(*request.args) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            return [score.alone(text)[0] for (text,) in (request.args for request in requests)]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return [_until(worker, stop, *request.args) for request in requests]

    return Engine()


def _until(worker: Worker, stop: list[int], context: str, settings: dict[str, Any]) -> str:
    """Greedy text up to the first stop string, or up to a token that ends a text."""
    with tempfile.TemporaryDirectory() as folder:
        length = int(settings.get("max_gen_toks", LENGTH))
        made = worker.generate(worker.tokenize(context), length, stop, Path(folder) / "logits.bin")
    text = worker.detokenize([token for token in made.token_ids if token not in stop])
    stops = settings.get("until") or []
    for ending in [stops] if isinstance(stops, str) else stops:
        text = text.partition(ending)[0]
    return text
