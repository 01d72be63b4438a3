"""Known bugs of the KV cache: what decode reads is not what was written."""
