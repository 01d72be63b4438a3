#define _POSIX_C_SOURCE 200809L
#include "protocol.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "logits are little-endian: swap the bytes of every float in answer_rows"
#endif

typedef struct {
    const engine *engine;
    facts model; /* vocab_size is 0 until a model is loaded */
    double id;
    fault why;
} session;

/* Answers with a result and returns 0, or returns -1 with the reason in s->why. */
typedef int handler(session *s, const json *params);

int fail(fault *why, const char *kind, const char *field, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why->message, sizeof why->message, format, arguments);
    va_end(arguments);
    why->kind = kind;
    why->field = field;
    return -1;
}

static int hello(session *s, const json *params) {
    (void)params;
    const char *name = s->engine->name;
    printf("{\"id\": %.0f, \"result\": {\"protocol\": 1, \"modes\": [\"prefill\", \"decode\"], \"generate\": true", s->id);
    printf(", \"engine\": \"%s\", \"versions\": {\"%s\": \"%s\"}}}\n", name, name, s->engine->version);
    return 0;
}

static int load(session *s, const json *params) {
    const json *model = json_member(params, "model", TEXT);
    s->model = (facts){0, 0, -1, -1};
    if (!model) return fail(&s->why, "refused", "model", "the path of the weights is missing");
    facts loaded = s->model;
    if (s->engine->load(model->text, &loaded, &s->why)) return -1;
    s->model = loaded;
    printf("{\"id\": %.0f, \"result\": {\"vocab_size\": %d, \"context_length\": %d", s->id, loaded.vocab_size, loaded.context_length);
    if (loaded.bos_token_id >= 0) printf(", \"bos_token_id\": %d", loaded.bos_token_id);
    if (loaded.eos_token_id >= 0) printf(", \"eos_token_ids\": [%d]", loaded.eos_token_id);
    printf("}}\n");
    return 0;
}

/* The token ids of a parameter, to be freed, or NULL with the reason. */
static int *take_ids(session *s, const json *params, const char *name) {
    const json *list = json_member(params, name, LIST);
    int *ids = malloc(((list ? (size_t)list->count : 0) + 1) * sizeof *ids), count = 0;
    for (const json *one = list ? list->first : NULL; one; one = one->next) {
        if (one->kind != NUMBER || !(one->number >= 0 && one->number < s->model.vocab_size) || one->number != (int)one->number) {
            fail(&s->why, "refused", name, "%g is no token of the vocabulary of %d", one->number, s->model.vocab_size);
            return free(ids), NULL;
        }
        ids[count++] = (int)one->number;
    }
    return ids;
}

/* Room for rows of logits, to be freed, or NULL with the reason. */
static float *make_rows(session *s, double tokens, double most) {
    float *rows = NULL;
    if (!s->model.vocab_size) fail(&s->why, "refused", "", "no model is loaded");
    else if (!(tokens >= 1)) fail(&s->why, "refused", "token_ids", "there is nothing to score");
    else if (!(most >= 0 && tokens + most <= s->model.context_length))
        fail(&s->why, "refused", "token_ids", "%.0f tokens, the context has room for %d", tokens + most, s->model.context_length);
    else if (!(rows = malloc((size_t)(tokens + most) * (size_t)s->model.vocab_size * sizeof *rows)))
        fail(&s->why, "environment", "", "no memory for %.0f rows of logits", tokens + most);
    return rows;
}

/* Write rows and begin the answer that names them. */
static int answer_rows(session *s, const json *params, const float *rows, int count) {
    const json *path = json_member(params, "logits", TEXT);
    if (!path) return fail(&s->why, "refused", "logits", "the file to write is missing");
    size_t size = (size_t)count * (size_t)s->model.vocab_size;
    FILE *file = fopen(path->text, "wb");
    int whole = file && fwrite(rows, sizeof *rows, size, file) == size;
    if ((file && fclose(file)) || !whole) return fail(&s->why, "environment", "logits", "cannot write %s: %s", path->text, strerror(errno));
    printf("{\"id\": %.0f, \"result\": {\"logits\": {\"path\": ", s->id);
    json_print(path->text);
    printf(", \"dtype\": \"float32\", \"shape\": [%d, %d]}", count, s->model.vocab_size);
    return 0;
}

static int score(session *s, const json *params) {
    const json *list = json_member(params, "token_ids", LIST), *mode = json_member(params, "mode", TEXT);
    int decode = mode && !strcmp(mode->text, "decode"), count = list ? list->count : 0, result = -1;
    if (!mode || (!decode && strcmp(mode->text, "prefill"))) return fail(&s->why, "refused", "mode", "it is prefill or decode");
    float *rows = make_rows(s, count, 0);
    int *ids = rows ? take_ids(s, params, "token_ids") : NULL;
    if (ids) {
        int step = decode ? 1 : count;
        result = 0;
        for (int at = 0; at < count && !result; at += step)
            result = s->engine->feed(ids + at, step, at, rows + (size_t)at * (size_t)s->model.vocab_size, &s->why);
        if (!result && !(result = answer_rows(s, params, rows, count))) printf("}}\n");
    }
    free(ids);
    free(rows);
    return result;
}

/* The largest entry of a row, the first of equal ones. */
static int choose(const float *row, int size) {
    int best = 0;
    for (int n = 1; n < size; n++)
        if (row[n] > row[best]) best = n;
    return best;
}

static int generate(session *s, const json *params) {
    const json *list = json_member(params, "token_ids", LIST), *most = json_member(params, "max_new_tokens", NUMBER);
    const json *stop = json_member(params, "stop", LIST);
    int count = list ? list->count : 0, made = 0, stopped = 0, result = -1, size = s->model.vocab_size;
    float *rows = make_rows(s, count, most ? most->number : -1);
    int *ids = rows ? take_ids(s, params, "token_ids") : NULL, *ends = ids ? take_ids(s, params, "stop") : NULL;
    if (ends) {
        int *new_ids = malloc(((size_t)most->number + 1) * sizeof *new_ids);
        float *row = rows + (size_t)(count - 1) * (size_t)size; /* the first row that a new token is chosen from */
        result = most->number > 0 ? s->engine->feed(ids, count, 0, rows, &s->why) : 0;
        for (; made < most->number && !stopped && !result; made++) {
            if (made) result = s->engine->feed(new_ids + made - 1, 1, count + made - 1, row + (size_t)made * (size_t)size, &s->why);
            new_ids[made] = choose(row + (size_t)made * (size_t)size, size);
            for (int n = 0; stop && n < stop->count; n++) stopped |= ends[n] == new_ids[made];
        }
        if (!result && !(result = answer_rows(s, params, row, made))) {
            printf(", \"finish\": \"%s\", \"token_ids\": [", stopped ? "stop" : "length");
            for (int n = 0; n < made; n++) printf(n ? ", %d" : "%d", new_ids[n]);
            printf("]}}\n");
        }
        free(new_ids);
    }
    free(ends);
    free(ids);
    free(rows);
    return result;
}

static int finish(session *s, const json *params) { return (void)params, printf("{\"id\": %.0f, \"result\": {}}\n", s->id) < 0; }

/* A parameter that is not known is refused: it could change a logit. */
static const struct method {
    const char *name, *params;
    handler *answer;
} methods[] = {
    {"hello", " protocol options ", hello},
    {"load", " model config ", load},
    {"score", " token_ids mode logits ", score},
    {"generate", " token_ids max_new_tokens stop logits ", generate},
    {"close", " ", finish},
};

static int answer(session *s, const json *request, const char *name) {
    const json *params = json_member(request, "params", OBJECT);
    for (size_t n = 0; n < sizeof methods / sizeof *methods; n++) {
        if (strcmp(methods[n].name, name)) continue;
        for (const json *one = params ? params->first : NULL; one; one = one->next) {
            char word[64];
            snprintf(word, sizeof word, " %s ", one->key);
            if (!strstr(methods[n].params, word)) return fail(&s->why, "refused", "", "%s has no parameter %s", name, one->key);
        }
        return methods[n].answer(s, params);
    }
    return fail(&s->why, "unsupported", "method", "no method is called %s", name);
}

int serve(const engine *engine) {
    session s = {.engine = engine, .model = {0, 0, -1, -1}};
    char *line = NULL;
    size_t room = 0;
    int closed = 0;
    while (!closed && getline(&line, &room, stdin) > 0) {
        json *request = json_parse(line);
        const json *id = json_member(request, "id", NUMBER), *method = json_member(request, "method", TEXT);
        s.id = id ? id->number : -1;
        int result = id && method ? answer(&s, request, method->text) : fail(&s.why, "refused", "", "this line is no request");
        if (result) {
            printf("{\"id\": %.0f, \"error\": {\"kind\": \"%s\", \"field\": \"%s\", ", s.id, s.why.kind, s.why.field);
            printf("\"message\": "), json_print(s.why.message), printf("}}\n");
        }
        fflush(stdout);
        closed = method && !result && !strcmp(method->text, "close");
        json_free(request);
    }
    free(line);
    return 0;
}
