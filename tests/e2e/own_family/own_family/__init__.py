"""A family that logitproof does not know: Nemotron, whose LayerNorm adds one to its weight and whose ReLU is squared."""
