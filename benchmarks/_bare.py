"""The bare library: the windows of a text through both models, and nothing done with the rows. Beside it stands overhead.

python benchmarks/_bare.py TEXT CONTEXT WINDOWS THREADS MODEL...
"""

import sys
from pathlib import Path

import llama_cpp as llama
import numpy as np

text, context, windows, threads = Path(sys.argv[1]).read_bytes(), *map(int, sys.argv[2:5])
llama.llama_log_set(quiet := llama.llama_log_callback(lambda level, line, data: None), None)
for path in sys.argv[5:]:
    params = llama.llama_model_default_params()
    params.use_extra_bufts, params.n_gpu_layers = False, 0
    model = llama.llama_model_load_from_file(path.encode(), params)
    vocab = llama.llama_model_get_vocab(model)
    ids = (llama.llama_token * (len(text) + 16))()
    count = llama.llama_tokenize(vocab, text, len(text), ids, len(ids), True, True)
    settings = llama.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = context
    settings.n_threads = settings.n_threads_batch = threads
    settings.type_k = settings.type_v = 0
    settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.offload_kqv = settings.op_offload = False
    made = llama.llama_init_from_model(model, settings)
    for window in range(min(windows, count // context)):
        llama.llama_memory_clear(llama.llama_get_memory(made), True)
        batch = llama.llama_batch_init(context, 0, 1)
        batch.n_tokens = context
        for place in range(context):
            batch.token[place], batch.pos[place] = ids[window * context + place], place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, place >= context // 2
        assert llama.llama_decode(made, batch) == 0
        rows = llama.llama_get_logits_ith(made, context // 2)
        assert np.isfinite(np.ctypeslib.as_array(rows, (1,))).all()
        llama.llama_batch_free(batch)
    llama.llama_free(made)
    llama.llama_model_free(model)
