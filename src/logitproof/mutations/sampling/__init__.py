"""Known bugs of samplers: logits right, tokens wrong."""
