"""What the command line prints between its marker lines, read as a dump and compared with what Hugging Face continues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
import transformers

from logitproof.readers import open_dump

FOLDER = Path(__file__).parents[1]
OUT = FOLDER.parents[1] / "runs" / "examples" / "two-paths"


def test_the_text_between_the_marker_lines_is_the_continuation(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "cli.py", str(OUT)], cwd=FOLDER, capture_output=True, text=True, check=True)
    (tmp_path / "cli.txt").write_text(done.stdout, "utf-8")
    dump = open_dump(tmp_path / "cli.txt")
    (prompt,) = dump.prompts
    assert dump.format == "marked_text" and prompt.prompt_length == 10
    continued = prompt.token_ids[prompt.prompt_length :]
    assert prompt.continuation_text == " ".join(f"<{token}>" for token in continued)
    model = transformers.AutoModelForCausalLM.from_pretrained(OUT / "model").float().eval()
    ids = torch.tensor([prompt.token_ids[: prompt.prompt_length]])
    with torch.no_grad():
        for _ in continued:
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    assert ids[0].tolist() == prompt.token_ids
