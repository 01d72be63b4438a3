"""The bare library's logits of given tokens, float32 [T, V], as bytes to a file. Beside it stands real.

python benchmarks/_bare_rows.py MODEL IDS OUT     IDS are separated by commas
"""

import sys
from pathlib import Path

import llama_cpp as llama
import numpy as np

file, ids, out = sys.argv[1], [int(number) for number in sys.argv[2].split(",")], Path(sys.argv[3])
llama.llama_log_set(quiet := llama.llama_log_callback(lambda level, line, data: None), None)
params = llama.llama_model_default_params()
params.use_extra_bufts, params.n_gpu_layers = False, 0
model = llama.llama_model_load_from_file(file.encode(), params)
settings = llama.llama_context_default_params()
settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
settings.n_threads = settings.n_threads_batch = 1
settings.type_k = settings.type_v = 0
settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
settings.offload_kqv = settings.op_offload = False
made = llama.llama_init_from_model(model, settings)
batch = llama.llama_batch_init(len(ids), 0, 1)
batch.n_tokens = len(ids)
for place, token in enumerate(ids):
    batch.token[place], batch.pos[place] = token, place
    batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, True
assert llama.llama_decode(made, batch) == 0
size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
rows = [np.ctypeslib.as_array(llama.llama_get_logits_ith(made, place), (size,)).copy() for place in range(len(ids))]
np.array(rows, np.float32).tofile(out)
