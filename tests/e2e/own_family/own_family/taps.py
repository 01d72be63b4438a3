"""A tap of our own: what the squared ReLU of a block without a gate reads."""

from __future__ import annotations

from logitproof.protocol.taps import OwnTap

TAPS = {"own.up": OwnTap("[T, F] what the squared ReLU reads", module="mlp.up_proj", node="ffn_up")}
