"""Bugs of gated delta-net layers: decay, beta, convolution, state."""
