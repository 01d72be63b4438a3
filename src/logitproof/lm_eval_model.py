"""Any logitproof engine as a model of lm-evaluation-harness, which is no dependency: `pip install lm-eval`."""

from __future__ import annotations

import importlib
from typing import Any

from logitproof.errors import EnvironmentFailed
from logitproof.quality.draws import Side, open_side
from logitproof.quality.likelihood import Likelihood
from logitproof.run import Workers


def run_tasks(side: Side, tasks: list[str], limit: int | None = None, include_path: str | None = None) -> dict[str, Any]:
    """Run tasks of the harness on one engine; returns its `results`. Raises EnvironmentFailed where it is not installed."""
    try:
        harness = importlib.import_module("lm_eval")
        manager = importlib.import_module("lm_eval.tasks").TaskManager(include_path=include_path)
    except ImportError as error:
        raise EnvironmentFailed(f"lm-evaluation-harness is not here: {error}", remedy="pip install lm-eval") from None
    with Workers() as workers:
        worker = open_side(workers, side)
        score = Likelihood(worker)
        try:
            model = _model(score, worker)
            found = harness.simple_evaluate(model=model, tasks=tasks, limit=limit, task_manager=manager, bootstrap_iters=0)
        finally:
            score.close()
    return dict(found["results"])


def _model(score: Likelihood, worker: Any) -> Any:
    """An instance of the harness's model class, made when the harness is there."""
    base = importlib.import_module("lm_eval.api.model").LM

    class Engine(base):  # type: ignore[misc, valid-type]
        """Log-likelihoods and greedy text through a worker."""

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            return [score.of(*request.args) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            return [score.of(text[:1], text[1:])[0] for (text,) in (request.args for request in requests)]

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return [_until(worker, *request.args) for request in requests]

    return Engine()


def _until(worker: Any, context: str, settings: dict[str, Any]) -> str:
    """Greedy text up to the first stop string."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        made = worker.generate(worker.tokenize(context), int(settings.get("max_gen_toks", 64)), [], Path(folder) / "logits.bin")
    text = str(worker.detokenize(made.token_ids))
    for stop in settings.get("until", []):
        text = text.partition(stop)[0]
    return text
