"""Known bugs of attention: scale, mask, window, heads, softmax."""
