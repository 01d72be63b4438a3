"""Which tensor's quantization costs how much of the model's output, and how to spend a budget of bytes on it."""
