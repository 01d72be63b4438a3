#define _POSIX_C_SOURCE 200809L
#include "gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, TYPES };
static const size_t sizes[TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* Walks through a file. Whoever reads past its end gets zeros and `bad`, which is asked once at the end of a part. */
typedef struct {
    const unsigned char *at, *end;
    int bad;
} cursor;

static const unsigned char *take(cursor *c, uint64_t size) {
    const unsigned char *found = c->at;
    if (size > (uint64_t)(c->end - c->at)) {
        c->bad = 1;
        return NULL;
    }
    c->at += size;
    return found;
}

static uint64_t take_number(cursor *c, size_t size) {
    uint64_t number = 0;
    const unsigned char *found = take(c, size);
    if (found) memcpy(&number, found, size);
    return number;
}

/* A string, as long as `room` holds; a longer one is cut off and matches no name. */
static void take_name(cursor *c, char *name, size_t room) {
    uint64_t length = take_number(c, 8);
    const unsigned char *found = take(c, length);
    size_t kept = found && length < room ? (size_t)length : 0;
    memcpy(name, kept ? found : (const unsigned char *)"", kept);
    name[kept] = 0;
}

static void skip_value(cursor *c, uint32_t type) {
    uint64_t count = 1;
    if (type == ARRAY) {
        type = (uint32_t)take_number(c, 4);
        count = take_number(c, 8);
    }
    if (type >= TYPES || type == ARRAY) c->bad = 1;
    else if (type != STRING) take(c, count > UINT64_MAX / 8 ? UINT64_MAX : count * sizes[type]);
    else
        while (count-- && !c->bad) take(c, take_number(c, 8));
}

static int map(gguf *file, const char *path, fault *why) {
    struct stat facts;
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0 || fstat(descriptor, &facts)) {
        int error = errno;
        if (descriptor >= 0) close(descriptor);
        return fail(why, "refused", "model", "%s: %s", path, strerror(error));
    }
    void *bytes = S_ISREG(facts.st_mode) && facts.st_size > 0
                      ? mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0)
                      : MAP_FAILED;
    close(descriptor);
    if (bytes == MAP_FAILED) return fail(why, "refused", "model", "%s is no file with content", path);
    file->bytes = bytes;
    file->size = (size_t)facts.st_size;
    return 0;
}

static void take_keys(gguf *file, cursor *c) {
    for (size_t n = 0; n < file->key_count && !c->bad; n++) {
        gguf_key *key = &file->keys[n];
        take_name(c, key->name, sizeof key->name);
        key->type = (uint32_t)take_number(c, 4);
        key->value = c->at;
        skip_value(c, key->type);
    }
}

static void take_tensors(gguf *file, cursor *c) {
    for (size_t n = 0; n < file->tensor_count && !c->bad; n++) {
        gguf_tensor *tensor = &file->tensors[n];
        take_name(c, tensor->name, sizeof tensor->name);
        uint32_t axes = (uint32_t)take_number(c, 4);
        if (axes > 4) c->bad = 1;
        for (uint32_t axis = 0; axis < 4; axis++) tensor->shape[axis] = axis < axes && !c->bad ? take_number(c, 8) : 1;
        tensor->type = (uint32_t)take_number(c, 4);
        uint64_t offset = take_number(c, 8);
        /* kept as an offset until it is known where the tensors begin */
        tensor->data = (const float *)(uintptr_t)offset;
    }
}

/* Turns offsets into addresses. */
static int place_tensors(gguf *file, const cursor *c, const char *path, fault *why) {
    uint64_t alignment = (uint64_t)gguf_number(file, "general.alignment", 32);
    if (alignment == 0 || alignment % sizeof(float)) return fail(why, "refused", "model", "%s: alignment %.0f", path, (double)alignment);
    uint64_t begin = ((uint64_t)(c->at - file->bytes) + alignment - 1) / alignment * alignment;
    for (size_t n = 0; n < file->tensor_count; n++) {
        gguf_tensor *tensor = &file->tensors[n];
        uint64_t offset = (uint64_t)(uintptr_t)tensor->data, bytes = sizeof(float);
        if (tensor->type != 0)
            return fail(why, "refused", "model", "%s: %s is of GGUF type %u, this engine reads float32", path, tensor->name, tensor->type);
        for (int axis = 0; axis < 4; axis++) {
            if (tensor->shape[axis] == 0 || tensor->shape[axis] > file->size) return fail(why, "refused", "model", "%s: %s has a size that cannot be", path, tensor->name);
            bytes = bytes > file->size ? bytes : bytes * tensor->shape[axis];
        }
        if (begin > file->size || offset > file->size - begin || bytes > file->size - begin - offset || offset % sizeof(float))
            return fail(why, "refused", "model", "%s is truncated: %s ends behind its %zu bytes", path, tensor->name, file->size);
        tensor->data = (const float *)(const void *)(file->bytes + begin + offset);
    }
    return 0;
}

int gguf_open(gguf *file, const char *path, fault *why) {
    *file = (gguf){0};
    if (map(file, path, why)) return -1;
    cursor c = {file->bytes, file->bytes + file->size, 0};
    const unsigned char *magic = take(&c, 4);
    uint32_t version = (uint32_t)take_number(&c, 4);
    int is_gguf = magic && !memcmp(magic, "GGUF", 4) && (version == 2 || version == 3);
    uint64_t tensors = take_number(&c, 8), keys = take_number(&c, 8);
    if (is_gguf && !c.bad && tensors <= file->size && keys <= file->size) {
        file->keys = calloc((size_t)keys + 1, sizeof *file->keys);
        file->tensors = calloc((size_t)tensors + 1, sizeof *file->tensors);
    }
    if (!is_gguf) fail(why, "refused", "model", "%s is no GGUF file of version 2 or 3", path);
    else if (!file->keys || !file->tensors) fail(why, "refused", "model", "%s is truncated or damaged in its header", path);
    else {
        file->key_count = (size_t)keys;
        file->tensor_count = (size_t)tensors;
        take_keys(file, &c);
        take_tensors(file, &c);
        if (c.bad) fail(why, "refused", "model", "%s is truncated or damaged in its header", path);
        else if (!place_tensors(file, &c, path, why)) return 0;
    }
    gguf_close(file);
    return -1;
}

void gguf_close(gguf *file) {
    if (file->bytes) munmap((void *)(uintptr_t)file->bytes, file->size);
    free(file->keys);
    free(file->tensors);
    *file = (gguf){0};
}

static const gguf_key *find_key(const gguf *file, const char *name) {
    for (size_t n = 0; n < file->key_count; n++)
        if (!strcmp(file->keys[n].name, name)) return &file->keys[n];
    return NULL;
}

double gguf_number(const gguf *file, const char *name, double missing) {
    const gguf_key *key = find_key(file, name);
    union {
        uint64_t u64;
        int64_t i64;
        uint32_t u32;
        int32_t i32;
        float f32;
        double f64;
        uint16_t u16;
        uint8_t u8;
    } value = {0};
    if (!key || key->type >= TYPES || !sizes[key->type]) return missing;
    memcpy(&value, key->value, sizes[key->type]);
    switch (key->type) {
    case U64: return (double)value.u64;
    case I64: return (double)value.i64;
    case U32: return value.u32;
    case I32: return value.i32;
    case F32: return (double)value.f32;
    case F64: return value.f64;
    case U16: return value.u16;
    case U8:
    case BOOL: return value.u8;
    default: return missing;
    }
}

int gguf_is(const gguf *file, const char *name, const char *text) {
    const gguf_key *key = find_key(file, name);
    uint64_t length;
    if (!key || key->type != STRING) return 0;
    memcpy(&length, key->value, sizeof length);
    return length == strlen(text) && !memcmp(key->value + 8, text, (size_t)length);
}

gguf_tensor *gguf_find(gguf *file, const char *name) {
    for (size_t n = 0; n < file->tensor_count; n++)
        if (!strcmp(file->tensors[n].name, name)) {
            file->tensors[n].used = 1;
            return &file->tensors[n];
        }
    return NULL;
}
