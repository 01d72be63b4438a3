/* The engine protocol of logitproof for engines in C: two functions and a name make an engine. */
#ifndef PROTOCOL_H
#define PROTOCOL_H

/* Why a request is not answered. kind: refused (the request or the file), failed (the engine), environment (the machine). */
typedef struct {
    const char *kind, *field;
    char message[600];
} fault;

/* What a loaded model is; -1 stands for a token that it does not have. */
typedef struct {
    int vocab_size, context_length, bos_token_id, eos_token_id;
} facts;

typedef struct {
    const char *name, *version;
    /* Make the weights at `model` ready and fill in the facts. 0, or -1 with the reason in `why`. */
    int (*load)(const char *model, facts *loaded, fault *why);
    /* Feed `count` token ids whose first stands at position `start`; `start` is 0 for a new sequence, else as many
     * as were fed before. Writes [count, vocab_size] logits; row t predicts the token after ids[t]. */
    int (*feed)(const int *ids, int count, int start, float *logits, fault *why);
} engine;

/* Answer requests on stdin until `close` or its end; returns the exit status. */
int serve(const engine *engine);

/* Fill in a fault; always -1, so that a function can return it. */
int fail(fault *why, const char *kind, const char *field, const char *format, ...);

#endif
