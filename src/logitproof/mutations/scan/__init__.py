"""Bugs of Mamba-2 scans: steps, decay, groups, convolution, state and the gated norm."""
