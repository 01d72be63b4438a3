/* As much JSON as requests need: a tree of values, read from one line. */
#ifndef JSON_H
#define JSON_H

typedef enum { WORD, NUMBER, TEXT, LIST, OBJECT } json_kind; /* WORD: true, false or null */

typedef struct json {
    json_kind kind;
    char *key, *text;
    double number;
    int count;
    struct json *first, *next;
} json;

/* The value that `line` is, or NULL where it is not JSON; to be freed with json_free. */
json *json_parse(const char *line);
void json_free(json *tree);

/* The member `key` of an object if it is of this kind, else NULL. */
json *json_member(const json *object, const char *key, json_kind kind);

/* Print a JSON string to stdout. */
void json_print(const char *text);

#endif
