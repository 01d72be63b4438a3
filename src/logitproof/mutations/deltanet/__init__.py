"""Bugs of gated delta-net layers: decay, beta, convolution, state. To add one, put a file here."""
