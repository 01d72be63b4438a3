"""Linear and llama3 scaling: the stretching of RoPE's frequencies for long contexts."""

from __future__ import annotations

from typing import Any

from logitproof.mutations import Record, swept
from logitproof.mutations.rope._tables import Parameters, WrongParameters, WrongScaling, is_plain


class _Linear(WrongScaling):
    scaling = "linear"


class _Llama3(WrongScaling):
    scaling = "llama3"


class LinearMissing(_Linear, id="rope.scaling.linear_missing"):
    """RoPE turns by unscaled frequencies where the model has linear scaling."""

    record = Record(
        shows=(
            "position 0 exact, wrong from position 1 on, growing with position; only the layers with scaling (every "
            "sixth of Gemma 3)"
        ),
        first_tap="layers.0.attn.q_rope",
        remedy="divide the positions by the factor in the layers that have linear scaling",
        seen_in=("mlx-vlm #1709", "mlxcel #1340", "ollama #13452"),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"rope_type": "default"}


class LinearFactor(_Linear, id="rope.scaling.linear_factor"):
    """RoPE's linear scaling uses another factor than the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; layers with scaling only",
        first_tap="layers.0.attn.q_rope",
        remedy="read the factor from the model's rope_parameters",
        seen_in=("ollama #12348",),
    )
    factor: float = swept(4.0, grid=(2.0, 4.0, 8.0, 16.0), between=(1.01, 256.0))

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"factor": self.factor}


class LinearOnAllLayers(WrongParameters, id="rope.scaling.linear_on_all_layers"):
    """Linear RoPE scaling of the global layers is applied to the layers with a window too."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; the layers with a window",
        first_tap="layers.0.attn.q_rope",
        remedy="keep the scaling, like the base, by the kind of the layer",
        seen_in=("ferrox #39", "ollama #13452", "llama.cpp #14367"),
    )

    def all_parameters(self, right: dict[str, Parameters], config: Any) -> dict[str, Parameters] | None:
        factors = [kind["factor"] for kind in right.values() if kind.get("rope_type") == "linear"]
        if not factors:
            return None
        scaled = {"rope_type": "linear", "factor": factors[0]}
        return {name: kind | scaled if kind.get("rope_type") == "default" else kind for name, kind in right.items()}


class Llama3Missing(_Llama3, id="rope.scaling.llama3_missing"):
    """RoPE turns by unscaled frequencies where the model has llama3 scaling."""

    record = Record(
        shows=(
            "position 0 exact, wrong from position 1 on; small on short prompts, large far beyond the original "
            "length; only the slow dimensions"
        ),
        first_tap="layers.0.attn.q_rope",
        remedy="apply llama3 scaling when the table is built, or store the factors with the weights",
        seen_in=("TransformerLens #910", "shainet #111"),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"rope_type": "default"}


class Llama3Factor(_Llama3, id="rope.scaling.llama3_factor"):
    """RoPE's llama3 scaling uses another factor than the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; only the slow dimensions",
        first_tap="layers.0.attn.q_rope",
        remedy="read factor from the model's rope_parameters",
        seen_in=("llama-models #241", "executorch #7265", "Megatron-LM #6305"),
    )
    factor: float = swept(32.0, grid=(2.0, 4.0, 8.0, 16.0, 32.0), between=(1.01, 256.0))

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"factor": self.factor}


class Llama3LowFreq(_Llama3, id="rope.scaling.llama3_low_freq"):
    """RoPE's llama3 scaling uses another low frequency factor than the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; only the slow dimensions",
        first_tap="layers.0.attn.q_rope",
        remedy="read low_freq_factor from the model's rope_parameters",
    )
    low_freq: float = swept(2.0, grid=(0.5, 2.0), between=(0.1, 3.9))

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"low_freq_factor": self.low_freq}


class Llama3HighFreq(_Llama3, id="rope.scaling.llama3_high_freq"):
    """RoPE's llama3 scaling uses another high frequency factor than the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; only the slow dimensions",
        first_tap="layers.0.attn.q_rope",
        remedy="read high_freq_factor from the model's rope_parameters",
    )
    high_freq: float = swept(2.0, grid=(2.0, 8.0, 16.0), between=(1.1, 64.0))

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"high_freq_factor": self.high_freq}


class Llama3OriginalLength(_Llama3, id="rope.scaling.llama3_original_length"):
    """RoPE's llama3 scaling uses another original length than the model's."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position; only the slow dimensions",
        first_tap="layers.0.attn.q_rope",
        remedy="read original_max_position_embeddings from the model's rope_parameters",
    )
    original_length: int = swept(2048, grid=(256, 2048, 4096, 8192, 32768, 131072))

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"original_max_position_embeddings": self.original_length}


class _Invented(WrongParameters):
    """Scaling of a type that the model does not have: subclasses name it."""

    def applies(self, config: Any) -> bool:
        """Models without any scaling; transformers scales none whose config leaves the head size open."""
        return is_plain(config) and getattr(config, "head_dim", 0) is not None and super().applies(config)

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The right ones with a scaling."""
        return right | self.scaled(config)

    def scaled(self, config: Any) -> Parameters:
        """The parameters of the scaling."""
        raise NotImplementedError


class Llama3Invented(_Invented, id="rope.scaling.llama3_invented"):
    """RoPE is scaled as Llama 3.1's is in a model without scaling."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, growing with position: slow frequencies slower still",
        first_tap="layers.0.attn.q_rope",
        remedy="scale only where rope_parameters name a type, and by that type",
    )
    factor: float = swept(8.0, grid=(8.0, 32.0), between=(1.01, 256.0))

    def scaled(self, config: Any) -> Parameters:
        lengths = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        return {"rope_type": "llama3", "factor": self.factor, **lengths}


class YarnInvented(_Invented, id="rope.scaling.yarn_invented"):
    """RoPE is scaled by YaRN in a model without scaling."""

    record = Record(
        shows="wrong from position 1 on: the factor also sets the scale of the scores",
        first_tap="layers.0.attn.q_rope",
        remedy="scale only where rope_parameters name a type, and by that type",
    )
    factor: float = swept(4.0, grid=(4.0, 8.0, 16.0, 32.0, 40.0), between=(1.01, 256.0))

    def scaled(self, config: Any) -> Parameters:
        return {"rope_type": "yarn", "factor": self.factor, "original_max_position_embeddings": 4096}
