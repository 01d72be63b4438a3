"""Known bugs of the head: what becomes of the last layer's output, up to the logits that are reported."""
