"""Checkpoints that are published quantized, and what their weights mean: a file a format, from the format's own document.

To add a format, put a file here: a docstring that names its document, `METHODS` with what `quant_method` of config.json calls
it, and one function

    def matrices(held: Held, settings: Settings) -> list[Matrix]: ...

which finds the format's matrices among the tensors by what they are and are called, checks their shapes against one another
and the settings, and says how each is computed when it is asked for. Then name the file in `folder.FORMATS`. Nothing is
rounded but once to float32: a kernel that computes in 16 bits is what a reference is there to judge.
"""
