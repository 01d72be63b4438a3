/* A whole LLM engine in C: reads GGUF files of float32, computes Llama and Qwen3 with a KV cache.
 *
 * -DBUG=n plants a known bug, so that a parity test can be seen failing; see `enum bug`. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "protocol.h"

#ifndef BUG
#define BUG 0
#endif

enum bug {
    NO_BUG,
    OTHER_PAIRS,        /* rotary pairs are neighbours where they are halves, and the other way round */
    NO_QK_NORM,         /* the norms of query and key heads are left out */
    NO_SCALE,           /* attention scores are not divided by the root of the head size */
    NO_ROPE_FACTORS,    /* the divisors of the rotary frequencies are not read */
    HEADS_DEALT_OUT,    /* query head h reads KV head h % K instead of h / (H / K) */
    LATE_POSITIONS,     /* after the first pass a token's rotary position is one too high */
    LAST_KEY_LOST,      /* after the first pass the key of the token before is 0 */
};

typedef struct {
    const float *attn_norm, *q, *k, *v, *q_norm, *k_norm, *output, *ffn_norm, *gate, *up, *down;
    float *keys, *values; /* [room, kv_heads * size] */
} layer;

typedef struct {
    gguf file;
    int layers, width, heads, kv_heads, size, ffn, vocab, context, neighbours, room;
    float eps;
    const float *embedding, *norm, *output;
    float *frequencies; /* [size / 2], radians a position */
    layer *layer;
} model;

static model loaded;

/* Loading. */

typedef struct {
    model *m;
    const char *path;
    fault *why;
    int bad;
} loader;

/* The data of a tensor that must be there in this shape. */
static const float *need(loader *l, int number, const char *name, int columns, int rows) {
    char full[65];
    if (number < 0) snprintf(full, sizeof full, "%s.weight", name);
    else snprintf(full, sizeof full, "blk.%d.%s.weight", number, name);
    const gguf_tensor *found = gguf_find(&l->m->file, full);
    if (!found || found->shape[0] != (uint64_t)columns || found->shape[1] != (uint64_t)rows || found->shape[2] * found->shape[3] != 1) {
        if (!l->bad) fail(l->why, "refused", "model", "%s: %s is not there in the shape [%d, %d]", l->path, full, rows, columns);
        l->bad = 1;
        return NULL;
    }
    return found->data;
}

static double config(const model *m, const char *name, double missing) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", m->neighbours ? "llama" : "qwen3", name);
    return gguf_number(&m->file, key, missing);
}

/* A key that counts something; what is missing or cannot be a count is 0. */
static int count_of(const model *m, const char *name, double missing) {
    double found = config(m, name, missing);
    return found >= 1 && found <= 1 << 24 ? (int)found : 0;
}

static int read_config(model *m, const char *path, fault *why) {
    m->neighbours = gguf_is(&m->file, "general.architecture", "llama");
    if (!m->neighbours && !gguf_is(&m->file, "general.architecture", "qwen3"))
        return fail(why, "refused", "model", "%s is neither llama nor qwen3", path);
    m->layers = count_of(m, "block_count", 0);
    m->width = count_of(m, "embedding_length", 0);
    m->ffn = count_of(m, "feed_forward_length", 0);
    m->heads = count_of(m, "attention.head_count", 0);
    m->kv_heads = count_of(m, "attention.head_count_kv", m->heads);
    m->context = count_of(m, "context_length", 0);
    m->size = m->heads ? count_of(m, "attention.key_length", m->width / m->heads) : 0;
    m->eps = (float)config(m, "attention.layer_norm_rms_epsilon", 0);
    if (!m->layers || !m->width || !m->ffn || !m->heads || !m->kv_heads || !m->context || !m->size || !(m->eps > 0))
        return fail(why, "refused", "model", "%s lacks a size that this engine needs", path);
    if (m->heads % m->kv_heads || m->size % 2 || config(m, "attention.value_length", m->size) != m->size)
        return fail(why, "refused", "model", "%s: %d heads, %d KV heads of %d", path, m->heads, m->kv_heads, m->size);
    if (config(m, "rope.dimension_count", m->size) != m->size || config(m, "rope.scaling.factor", 1) != 1 || config(m, "expert_count", 0) != 0 || config(m, "attention.sliding_window", 0) != 0)
        return fail(why, "refused", "model", "%s: partial or scaled rotary positions, experts and windows are not offered", path);
    return 0;
}

static void read_rope(loader *l) {
    model *m = l->m;
    float base = (float)config(m, "rope.freq_base", 10000);
    int half = m->size / 2;
    gguf_tensor *factors = gguf_find(&m->file, "rope_freqs.weight");
    if (factors && factors->shape[0] != (uint64_t)half) need(l, -1, "rope_freqs", half, 1);
    m->frequencies = malloc((size_t)half * sizeof *m->frequencies);
    for (int i = 0; i < half && !l->bad; i++) {
        m->frequencies[i] = 1.0f / powf(base, (float)(2 * i) / (float)m->size);
        if (factors && BUG != NO_ROPE_FACTORS) m->frequencies[i] /= factors->data[i];
    }
}

static void read_layer(loader *l, int n) {
    model *m = l->m;
    layer *one = &m->layer[n];
    int q_width = m->heads * m->size, kv_width = m->kv_heads * m->size;
    one->attn_norm = need(l, n, "attn_norm", m->width, 1);
    one->q = need(l, n, "attn_q", m->width, q_width);
    one->k = need(l, n, "attn_k", m->width, kv_width);
    one->v = need(l, n, "attn_v", m->width, kv_width);
    one->output = need(l, n, "attn_output", q_width, m->width);
    if (!m->neighbours) {
        one->q_norm = need(l, n, "attn_q_norm", m->size, 1);
        one->k_norm = need(l, n, "attn_k_norm", m->size, 1);
    }
    one->ffn_norm = need(l, n, "ffn_norm", m->width, 1);
    one->gate = need(l, n, "ffn_gate", m->width, m->ffn);
    one->up = need(l, n, "ffn_up", m->width, m->ffn);
    one->down = need(l, n, "ffn_down", m->ffn, m->width);
}

static void read_tensors(loader *l) {
    model *m = l->m;
    const gguf_tensor *embedding = gguf_find(&m->file, "token_embd.weight");
    m->vocab = embedding && embedding->shape[1] <= 1 << 24 ? (int)embedding->shape[1] : 0;
    m->embedding = need(l, -1, "token_embd", m->width, m->vocab);
    m->norm = need(l, -1, "output_norm", m->width, 1);
    m->output = gguf_find(&m->file, "output.weight") ? need(l, -1, "output", m->width, m->vocab) : m->embedding;
    read_rope(l);
    for (int n = 0; n < m->layers && !l->bad; n++) read_layer(l, n);
    for (size_t n = 0; n < m->file.tensor_count && !l->bad; n++)
        if (!m->file.tensors[n].used) /* a bias that is ignored would be a wrong model */
            l->bad = fail(l->why, "refused", "model", "%s: this engine has no use for %s", l->path, m->file.tensors[n].name);
}

static void discard(model *m) {
    for (int n = 0; m->layer && n < m->layers; n++) {
        free(m->layer[n].keys);
        free(m->layer[n].values);
    }
    free(m->layer);
    free(m->frequencies);
    gguf_close(&m->file);
    *m = (model){0};
}

static int load(const char *path, facts *found, fault *why) {
    model *m = &loaded;
    loader l = {m, path, why, 0};
    discard(m);
    if (gguf_open(&m->file, path, why)) return -1;
    l.bad = read_config(m, path, why);
    if (!l.bad) {
        m->layer = calloc((size_t)m->layers, sizeof *m->layer);
        read_tensors(&l);
    }
    if (l.bad) {
        discard(m);
        return -1;
    }
    found->vocab_size = m->vocab;
    found->context_length = m->context;
    found->bos_token_id = (int)gguf_number(&m->file, "tokenizer.ggml.bos_token_id", -1);
    found->eos_token_id = (int)gguf_number(&m->file, "tokenizer.ggml.eos_token_id", -1);
    return 0;
}

/* Computing. T tokens at a time; a token's row of a matrix [T, n] follows the one before it. */

enum { LANES = 16 };

static float dot(const float *a, const float *b, int count) {
    float sums[LANES] = {0}, sum = 0;
    int n = 0;
    for (; n + LANES <= count; n += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += a[n + lane] * b[n + lane];
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    for (; n < count; n++) sum += a[n] * b[n];
    return sum;
}

/* out [T, rows] = in [T, columns] times the transposed weight [rows, columns] */
static void multiply(float *out, const float *in, const float *weight, int tokens, int columns, int rows) {
    for (int r = 0; r < rows; r++)
        for (int t = 0; t < tokens; t++)
            out[(size_t)t * (size_t)rows + (size_t)r] = dot(in + (size_t)t * (size_t)columns, weight + (size_t)r * (size_t)columns, columns);
}

static void normalize(float *out, const float *in, const float *weight, int rows, int size, float eps) {
    for (int r = 0; r < rows; r++, in += size, out += size) {
        double squares = 0;
        for (int n = 0; n < size; n++) squares += (double)in[n] * in[n];
        float scale = (float)(1 / sqrt(squares / size + eps));
        for (int n = 0; n < size; n++) out[n] = weight[n] * (in[n] * scale);
    }
}

/* Turns every head of a token: entry i with i + size / 2, or 2i with 2i + 1. */
static void rotate(const model *m, float *heads, int count, int position) {
    int half = m->size / 2, neighbours = m->neighbours ^ (BUG == OTHER_PAIRS);
    for (int i = 0; i < half; i++) {
        float angle = (float)position * m->frequencies[i], c = cosf(angle), s = sinf(angle);
        int one = neighbours ? 2 * i : i, other = neighbours ? one + 1 : i + half;
        for (float *head = heads; head < heads + (size_t)count * (size_t)m->size; head += m->size) {
            float x = head[one], y = head[other];
            head[one] = x * c - y * s;
            head[other] = x * s + y * c;
        }
    }
}

/* out [size]: the values that one query head attends to, at position `last` and before it. */
static void attend(const model *m, const layer *one, const float *query, int kv_head, int last, float *scores, float *out) {
    size_t stride = (size_t)m->kv_heads * (size_t)m->size, offset = (size_t)kv_head * (size_t)m->size;
    float scale = BUG == NO_SCALE ? 1.0f : 1.0f / sqrtf((float)m->size), largest = -INFINITY;
    for (int t = 0; t <= last; t++) {
        scores[t] = scale * dot(query, one->keys + (size_t)t * stride + offset, m->size);
        if (scores[t] > largest) largest = scores[t];
    }
    double sum = 0;
    for (int t = 0; t <= last; t++) sum += scores[t] = expf(scores[t] - largest);
    memset(out, 0, (size_t)m->size * sizeof *out);
    for (int t = 0; t <= last; t++) {
        const float *value = one->values + (size_t)t * stride + offset;
        float share = (float)(scores[t] / sum);
        for (int n = 0; n < m->size; n++) out[n] += share * value[n];
    }
}

/* Scratch for T tokens. */
typedef struct {
    float *x, *normed, *q, *mixed, *gate, *up, *scores;
} scratch;

static void attention(const model *m, layer *one, scratch *s, int tokens, int start) {
    int q_width = m->heads * m->size, kv_width = m->kv_heads * m->size, decoding = start > 0;
    float *keys = one->keys + (size_t)start * (size_t)kv_width, *values = one->values + (size_t)start * (size_t)kv_width;
    multiply(s->q, s->normed, one->q, tokens, m->width, q_width);
    multiply(keys, s->normed, one->k, tokens, m->width, kv_width);
    multiply(values, s->normed, one->v, tokens, m->width, kv_width);
    if (one->q_norm && BUG != NO_QK_NORM) {
        normalize(s->q, s->q, one->q_norm, tokens * m->heads, m->size, m->eps);
        normalize(keys, keys, one->k_norm, tokens * m->kv_heads, m->size, m->eps);
    }
    for (int t = 0; t < tokens; t++) {
        int position = start + t + (BUG == LATE_POSITIONS && decoding);
        rotate(m, s->q + (size_t)t * (size_t)q_width, m->heads, position);
        rotate(m, keys + (size_t)t * (size_t)kv_width, m->kv_heads, position);
    }
    if (BUG == LAST_KEY_LOST && decoding) memset(keys - kv_width, 0, (size_t)kv_width * sizeof *keys);
    for (int t = 0; t < tokens; t++)
        for (int h = 0; h < m->heads; h++) {
            size_t at = (size_t)t * (size_t)q_width + (size_t)(h * m->size);
            int kv_head = BUG == HEADS_DEALT_OUT ? h % m->kv_heads : h / (m->heads / m->kv_heads);
            attend(m, one, s->q + at, kv_head, start + t, s->scores, s->mixed + at);
        }
    multiply(s->normed, s->mixed, one->output, tokens, q_width, m->width);
}

static void feed_forward(const model *m, const layer *one, scratch *s, int tokens) {
    multiply(s->gate, s->normed, one->gate, tokens, m->width, m->ffn);
    multiply(s->up, s->normed, one->up, tokens, m->width, m->ffn);
    for (size_t n = 0; n < (size_t)tokens * (size_t)m->ffn; n++) s->gate[n] *= s->up[n] / (1 + expf(-s->gate[n]));
    multiply(s->normed, s->gate, one->down, tokens, m->ffn, m->width);
}

static void add(float *x, const float *more, size_t count) {
    for (size_t n = 0; n < count; n++) x[n] += more[n];
}

/* Room in the caches for positions up to `count`; what is in them stays. */
static int grow(model *m, int count) {
    if (count <= m->room) return 0;
    int room = count > 2 * m->room ? count : 2 * m->room;
    size_t bytes = (size_t)room * (size_t)m->kv_heads * (size_t)m->size * sizeof(float);
    for (int n = 0; n < m->layers; n++) {
        float *keys = realloc(m->layer[n].keys, bytes);
        if (keys) m->layer[n].keys = keys;
        float *values = realloc(m->layer[n].values, bytes);
        if (values) m->layer[n].values = values;
        if (!keys || !values) return -1;
    }
    m->room = room;
    return 0;
}

static void run_layers(model *m, const int *ids, int tokens, int start, float *logits, scratch *s) {
    size_t width = (size_t)m->width, all = (size_t)tokens * width;
    for (int t = 0; t < tokens; t++) memcpy(s->x + (size_t)t * width, m->embedding + (size_t)ids[t] * width, width * sizeof(float));
    for (int n = 0; n < m->layers; n++) {
        layer *one = &m->layer[n];
        normalize(s->normed, s->x, one->attn_norm, tokens, m->width, m->eps);
        attention(m, one, s, tokens, start);
        add(s->x, s->normed, all);
        normalize(s->normed, s->x, one->ffn_norm, tokens, m->width, m->eps);
        feed_forward(m, one, s, tokens);
        add(s->x, s->normed, all);
    }
    normalize(s->normed, s->x, m->norm, tokens, m->width, m->eps);
    multiply(logits, s->normed, m->output, tokens, m->width, m->vocab);
}

static int feed(const int *ids, int count, int start, float *logits, fault *why) {
    model *m = &loaded;
    size_t tokens = (size_t)count, width = (size_t)m->width, q_width = (size_t)m->heads * (size_t)m->size, ffn = (size_t)m->ffn;
    float *all = malloc((tokens * 2 * (width + q_width + ffn) + (size_t)(start + count)) * sizeof *all);
    if (!all || grow(m, start + count)) {
        free(all);
        return fail(why, "environment", "", "no memory for %d tokens", start + count);
    }
    scratch s = {.x = all};
    s.normed = s.x + tokens * width;
    s.q = s.normed + tokens * width;
    s.mixed = s.q + tokens * q_width;
    s.gate = s.mixed + tokens * q_width;
    s.up = s.gate + tokens * ffn;
    s.scores = s.up + tokens * ffn;
    run_layers(m, ids, count, start, logits, &s);
    free(all);
    return 0;
}

int main(void) {
    static const engine tiny = {"tiny-c", BUG ? "1-bug" : "1", load, feed};
    int status = serve(&tiny);
    discard(&loaded);
    return status;
}
