"""The words between harness and engine: messages, taps, the sampler."""
