"""What most people write first: token by token through the cache, every row of logits as JSON, KL of the two files.

python benchmarks/_script.py TEXT TOKENS THREADS BASE CANDIDATE     prints seconds a position, without loading
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from llama_cpp import Llama

text, tokens, threads = Path(sys.argv[1]).read_bytes(), *map(int, sys.argv[2:4])
seconds, files = 0.0, []
for path in sys.argv[4:6]:
    model = Llama(path, n_ctx=tokens, n_threads=threads, logits_all=False, verbose=False)
    ids, rows = model.tokenize(text)[:tokens], []
    begin = time.perf_counter()
    for token in ids:
        model.eval([token])
        rows.append(np.ctypeslib.as_array(model._ctx.get_logits(), (model.n_vocab(),)).tolist())
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        json.dump(rows, file)
    files.append(file.name)
    seconds += time.perf_counter() - begin
begin = time.perf_counter()
p, q = (np.array(json.loads(Path(name).read_bytes())) for name in files)
log_p, log_q = (one - np.log(np.exp(one - one.max(1, keepdims=True)).sum(1, keepdims=True)) for one in (p, q))
kl = (np.exp(log_p - log_p.max(1, keepdims=True)) * (log_p - log_q)).sum(1).mean()
seconds += time.perf_counter() - begin
print(seconds / tokens)
