/* The smallest engine: logitproof's own toy model in C, beside which an engine of yours may begin. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"
#include "protocol.h"

enum { WIDTH = 16, CONTEXT = 4096, SMALLEST_VOCABULARY = 257, LONGEST_FILE = 4096 };

static int vocab_size;
static double *embedding, *head; /* [vocab_size, WIDTH], [WIDTH, vocab_size] */
static double state[WIDTH];

static uint32_t mix(uint32_t x) {
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

/* The n-th weight of a model: uniform, of variance 1. */
static double weight(uint32_t seed, uint32_t n) { return (mix(mix(seed) + n) / 4294967296.0 - 0.5) * sqrt(12); }

static int load(const char *path, facts *found, fault *why) {
    char text[LONGEST_FILE + 1] = "";
    FILE *file = fopen(path, "rb");
    size_t length = file ? fread(text, 1, LONGEST_FILE, file) : 0;
    if (file) fclose(file);
    json *record = json_parse(text);
    const json *size = json_member(record, "vocab_size", NUMBER), *seed = json_member(record, "seed", NUMBER);
    int good = length && size && seed && size->number >= SMALLEST_VOCABULARY && size->number <= 1 << 24;
    if (good) {
        vocab_size = (int)size->number;
        uint32_t count = (uint32_t)vocab_size * WIDTH, begin = (uint32_t)seed->number;
        free(embedding);
        embedding = malloc(2 * count * sizeof *embedding);
        head = embedding + count;
        for (uint32_t n = 0; n < 2 * count; n++) embedding[n] = weight(begin, n);
        *found = (facts){vocab_size, CONTEXT, -1, 0};
    }
    json_free(record);
    return good ? 0 : fail(why, "refused", "model", "%s is no toy model", path);
}

static int feed(const int *ids, int count, int start, float *logits, fault *why) {
    (void)why;
    for (int t = 0; t < count; t++) {
        for (int i = 0; i < WIDTH; i++) state[i] = tanh((start + t ? 0.6 * state[i] : 0) + embedding[ids[t] * WIDTH + i]);
        for (int n = 0; n < vocab_size; n++) {
            double sum = 0;
            for (int i = 0; i < WIDTH; i++) sum += state[i] * head[i * vocab_size + n];
            *logits++ = (float)sum;
        }
    }
    return 0;
}

int main(void) {
    static const engine toy = {"toy-c", "1", load, feed};
    return serve(&toy);
}
