#include "json.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 32 };

static int eat(const char **at, char c) {
    while (isspace((unsigned char)**at)) ++*at;
    if (**at != c) return 0;
    ++*at;
    return 1;
}

static char *put_utf8(char *out, unsigned code) {
    if (code < 0x80) {
        *out = (char)code;
        return out + 1;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *out++ = (char)((0xFF00 >> (more + 1) & 0xFF) | code >> 6 * more);
    while (more--) *out++ = (char)(0x80 | (code >> 6 * more & 0x3F));
    return out;
}

/* The code point of \uXXXX at *at, which is left on its last character; a pair of surrogates is one. */
static int take_code(const char **at, const char *end, unsigned *code) {
    unsigned low;
    if (*at + 5 > end || sscanf(*at, "u%4x", code) != 1) return 0;
    *at += 4;
    if (*code >> 10 == 0x36 && *at + 7 <= end && sscanf(*at + 1, "\\u%4x", &low) == 1) {
        *code = 0x10000 + ((*code & 0x3FF) << 10 | (low & 0x3FF));
        *at += 6;
    }
    return 1;
}

static char *parse_text(const char **at) {
    static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *end = *at, *found;
    while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
    char *text = malloc((size_t)(end - *at) + 1), *out = text;
    for (; *at < end; ++*at) {
        unsigned code;
        if (**at != '\\') *out++ = **at;
        else if ((found = strchr(names, *++*at))) *out++ = meant[found - names];
        else if (take_code(at, end, &code)) out = put_utf8(out, code);
        else break;
    }
    *out = 0;
    if (*at == end && eat(at, '"')) return text;
    free(text);
    return NULL;
}

void json_free(json *tree) {
    while (tree) {
        json *next = tree->next;
        json_free(tree->first);
        free(tree->key);
        free(tree->text);
        free(tree);
        tree = next;
    }
}

static json *parse(const char **at, int depth);

static int parse_members(json *made, const char **at, char closing, int depth) {
    if (depth > DEEPEST) return 0;
    if (eat(at, closing)) return 1;
    for (json **last = &made->first;; last = &(*last)->next) {
        char *key = NULL;
        if (closing == '}' && !(eat(at, '"') && (key = parse_text(at)) && eat(at, ':'))) {
            free(key);
            return 0;
        }
        *last = parse(at, depth + 1);
        if (!*last) {
            free(key);
            return 0;
        }
        (*last)->key = key;
        made->count++;
        if (eat(at, closing)) return 1;
        if (!eat(at, ',')) return 0;
    }
}

static int parse_word(const char **at) {
    static const char *const words[] = {"true", "false", "null"};
    for (int n = 0; n < 3; n++)
        if (!strncmp(*at, words[n], strlen(words[n]))) {
            *at += strlen(words[n]);
            return 1;
        }
    return 0;
}

static json *parse(const char **at, int depth) {
    json *made = calloc(1, sizeof *made);
    int good;
    if (eat(at, '{')) {
        made->kind = OBJECT;
        good = parse_members(made, at, '}', depth);
    } else if (eat(at, '[')) {
        made->kind = LIST;
        good = parse_members(made, at, ']', depth);
    } else if (eat(at, '"')) {
        made->kind = TEXT;
        good = (made->text = parse_text(at)) != NULL;
    } else if (**at == '-' || isdigit((unsigned char)**at)) {
        char *end;
        made->kind = NUMBER;
        made->number = strtod(*at, &end);
        good = end != *at;
        *at = end;
    } else good = parse_word(at);
    if (good) return made;
    json_free(made);
    return NULL;
}

json *json_parse(const char *line) {
    json *made = parse(&line, 0);
    if (made && eat(&line, 0) == 0) {
        json_free(made);
        return NULL;
    }
    return made;
}

json *json_member(const json *object, const char *key, json_kind kind) {
    for (json *one = object ? object->first : NULL; one; one = one->next)
        if (one->key && !strcmp(one->key, key)) return one->kind == kind ? one : NULL;
    return NULL;
}

void json_print(const char *text) {
    putchar('"');
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20) printf("\\u%04x", *text);
        else printf(strchr("\"\\", *text) ? "\\%c" : "%c", *text);
    }
    putchar('"');
}
