/* Reads GGUF files: keys, and tensors of float32. */
#ifndef GGUF_H
#define GGUF_H

#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

typedef struct {
    char name[65];
    uint32_t type;
    uint64_t shape[4]; /* shape[0] is the length of a row */
    const float *data;
    int used;
} gguf_tensor;

typedef struct {
    char name[128];
    uint32_t type;
    const unsigned char *value;
} gguf_key;

typedef struct {
    const unsigned char *bytes;
    size_t size, key_count, tensor_count;
    gguf_key *keys;
    gguf_tensor *tensors;
} gguf;

/* Maps the file at `path`. 0, or -1 with a reason that names the file; sizes are compared with the file's own. */
int gguf_open(gguf *file, const char *path, fault *why);
void gguf_close(gguf *file);

/* A key that is a number, or `missing`. */
double gguf_number(const gguf *file, const char *key, double missing);
/* Whether a key is this text; a key that is not there is no text. */
int gguf_is(const gguf *file, const char *key, const char *text);
/* The tensor, marked as used, or NULL. */
gguf_tensor *gguf_find(gguf *file, const char *name);

#endif
