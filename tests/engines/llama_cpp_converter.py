"""Runs llama.cpp's own converter: `python llama_cpp_converter.py SOURCE PRE FOLDER --outfile FILE --outtype f32`.

The converter knows a pre-tokenizer by a hash over the ids of a test text, which a vocabulary trained for this
project cannot have; so that one look-up is answered with PRE. Gemma 4 and Phi ask for a vocabulary of pieces, and get
the byte-level one that there is. All the rest is the converter as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    """Patches the look-up and hands over."""
    source, pre, *rest = sys.argv[1:]
    sys.path.insert(0, source)
    sys.argv = [str(Path(source) / "convert_hf_to_gguf.py"), *rest]
    import convert_hf_to_gguf
    from conversion.base import TextModel
    from conversion.gemma import Gemma4Model
    from conversion.phi import Phi3MiniModel

    for model in (Gemma4Model, Phi3MiniModel):
        model.set_vocab = TextModel._set_vocab_gpt2
    TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    convert_hf_to_gguf.main()


if __name__ == "__main__":
    main()
