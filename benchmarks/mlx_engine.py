"""MLX as an engine of the protocol: `logitproof acid command -o 'argv=[PYTHON_WITH_MLX, benchmarks/mlx_engine.py]'`.

Needs `pip install mlx[cpu] mlx-lm` in a Python of its own, nothing of logitproof. An argument above 0 is the number of
positions of a prefill pass.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

CHUNK = int(sys.argv[1]) if len(sys.argv) > 1 else 0


def answer(method: str, params: dict, state: dict) -> dict:
    """The result of one request."""
    if method == "hello":
        versions = {"mlx": mx.__version__}
        return {"protocol": 1, "engine": "mlx", "versions": versions, "modes": ["prefill", "decode"]}
    if method == "load":
        model, config = load_model(Path(params["model"]), model_config=older(Path(params["model"])))
        model.set_dtype(mx.float32)
        state["model"] = model
        return {"vocab_size": int(config["vocab_size"]), "details": {"dtype": "float32"}}
    if method == "score":
        rows = score(state["model"], params["token_ids"], params["mode"])
        rows.astype("<f4").tofile(params["logits"])
        return {"logits": {"path": params["logits"], "dtype": "float32", "shape": list(rows.shape)}}
    return {}


def older(folder: Path) -> dict:
    """What mlx-lm looks for under the names that configs had before transformers 5."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    rope = config.get("rope_parameters", {})
    found = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
    if rope.get("rope_type", "default") != "default":
        found["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
    for old, new in (
        ("partial_rotary_factor", rope.get("partial_rotary_factor")),
        ("num_experts", config.get("num_local_experts")),
    ):
        if new is not None:
            found[old] = new
    return found


def score(model: object, ids: list[int], mode: str) -> np.ndarray:
    """Logits [T, V] in one pass, in pieces or token by token."""
    size = 1 if mode == "decode" else CHUNK or len(ids)
    cache = make_prompt_cache(model)
    parts = [model(mx.array([ids[at : at + size]]), cache=cache)[0] for at in range(0, len(ids), size)]
    return np.array(mx.concatenate(parts).astype(mx.float32))


def main() -> None:
    """Requests on stdin, answers on stdout."""
    state: dict = {}
    mx.set_default_device(mx.cpu)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            done = {"id": request["id"], "result": answer(request["method"], request["params"], state)}
        except Exception as error:  # whatever mlx raises, the harness is to hear of it
            kind = "refused" if request["method"] == "load" else "failed"
            done = {"id": request["id"], "error": {"kind": kind, "message": f"{type(error).__name__}: {error}"}}
        print(json.dumps(done), flush=True)
        if request["method"] == "close":
            return


if __name__ == "__main__":
    main()
