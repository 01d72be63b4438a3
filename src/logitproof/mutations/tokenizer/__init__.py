"""Known bugs of tokenizers: the model is right, what it reads is not."""
