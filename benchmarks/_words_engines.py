"""Mistakes of people who write engines."""

from __future__ import annotations

from collections.abc import Iterator

from _words_mistakes import Mistake, engine

ROWS = 'def score(p):\n    made = rows(p["token_ids"])\n    {}\n    return {{"logits": write(p["logits"], made)}}'
OVERFLOW = ("overflow", "raise the engine's `timeout`")
SOFTMAX = "made = [[math.exp(x) / sum(map(math.exp, row)) for x in row] for row in made]"
LOG2 = "made = [[(x - math.log(sum(map(math.exp, row)))) / math.log(2) for x in row] for row in made]"
ROW_MISTAKES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "softmax instead of logits": (SOFTMAX, 2, ("PF505", "these are probabilities, not logits")),
    "percentages instead of logits": (
        SOFTMAX.replace("math.exp(x) /", "100 * math.exp(x) /"),
        2,
        ("PF505", "these are percentages, not logits"),
    ),
    "logarithms to base 2": (LOG2, 2, ("PF505", "log-probabilities to base 2")),
    "surprisals": (
        "made = [[math.log(sum(map(math.exp, row))) - x for x in row] for row in made]",
        2,
        ("PF505", "without their sign"),
    ),
    "exponentials": ("made = [[math.exp(x) for x in row] for row in made]", 2, ("PF505", "exponentials of the logits")),
    "the sigmoid of every logit": (
        "made = [[1 / (1 + math.exp(-x)) for x in row] for row in made]",
        2,
        ("PF505", "the sigmoid of the reference's logit"),
    ),
    "a temperature": ("made = [[x / 0.7 for x in row] for row in made]", 1, ("the reference's times 1.4", "temperature")),
    "the sign": ("made = [[-x for x in row] for row in made]", 1, ("times -1", "negated")),
    "a cap on the logits": ("made = [[3 * math.tanh(x / 3) for x in row] for row in made]", 1, ("tanh", "reference's logit")),
    "a clamp on the logits": ("made = [[max(-2, min(2, x)) for x in row] for row in made]", 1, ("cut off at -2 and 2",)),
    "a row of one value": ("made = [[0.25] * V for row in made]", 2, ("PF502", "one value, 0.25")),
    "nearly flat rows": (
        "made = [[1e-4 * math.sin(7 * n * t) for n in range(V)] for t in range(1, len(made) + 1)]",
        1,
        ("nearly flat",),
    ),
    "the first row everywhere": ("made = made[:1] * len(made)", 2, ("PF503", "equals position 0, after another token")),
    "rows shifted by one": ("made = made[1:] + made[-1:]", 2, ("PF504", r"row t is the reference's row t\+1")),
    "rows one late": ("made = made[:1] + made[:-1]", 2, ("PF504", "row t is the reference's row t-1")),
    "rows in reverse": ("made = made[::-1]", 2, ("PF504", "in reverse")),
    "rows transposed": (
        "flat = [row[n] for n in range(V) for row in made]; made = [flat[t * V:(t + 1) * V] for t in range(len(made))]",
        2,
        ("PF504", "transposed"),
    ),
    "rows of the request before": (
        "global last; made, last = (globals().get('last') or made)[:len(made)], made; made = (made * len(last))[:len(last)]",
        2,
        ("PF507", "the rows of prompt"),
    ),
}
ANSWERS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "big-endian numbers": (
        "def score(p):\n    made = rows(p['token_ids'])\n    with open(p['logits'], 'wb') as file:\n        for row in made:\n"
        "            file.write(struct.pack(f'>{V}f', *row))\n"
        "    return {'logits': {'path': p['logits'], 'dtype': 'float32', 'shape': [len(made), V]}}",
        3,
        ("written big-endian", "little-endian"),
    ),
    "a relative path in the answer": (
        "def score(p):\n    told = write(p['logits'], rows(p['token_ids']))\n"
        "    return {'logits': {**told, 'path': 'logits.bin'}}",
        3,
        ("'logits.bin', a relative path", "the very path of the request"),
    ),
    "another path in the answer": (
        "def score(p):\n    return {'logits': write(p['logits'] + '.f32', rows(p['token_ids']))}",
        3,
        ("another file, and was asked",),
    ),
    "the last row alone": (
        "def score(p):\n    return {'logits': write(p['logits'], rows(p['token_ids'])[-1:])}",
        3,
        (r"shape \[1, 40\], expected \[\d+, 40\]",),
    ),
    "rows and columns exchanged in the shape": (
        "def score(p):\n    told = write(p['logits'], rows(p['token_ids']))\n"
        "    return {'logits': {**told, 'shape': told['shape'][::-1]}}",
        3,
        ("its sides are exchanged",),
    ),
    "whole numbers for logits": (
        "def score(p):\n    made = [[int(x) for x in row] for row in rows(p['token_ids'])]\n"
        "    return {'logits': write(p['logits'], made, 'i')}",
        3,
        ("rows of int32, float32 or float64 is expected",),
    ),
    "a file that is not flushed": (
        "def score(p):\n    told = write(p['logits'], rows(p['token_ids']))\n    os.truncate(p['logits'], 64)\n"
        "    return {'logits': told}",
        3,
        (r"is \d+ bytes, the file has 64",),
    ),
    "NaN": (ROWS.format("made[-1][3] = float('nan')"), 3, ("logits hold nan at position", "vocabulary entry 3")),
    "an answer without its newline": (
        "def send(m):\n    sys.stdout.write(json.dumps(m)); sys.stdout.flush()",
        3,
        (r"`hello`", r"\d+ bytes came without a newline", "end every answer with a newline"),
    ),
    "a log line on stdout": (
        "def load(p):\n    print('loading weights', flush=True)\n    return {'vocab_size': V}",
        3,
        ("not the protocol: 'loading weights'", "log to stderr"),
    ),
    "an answer with another id": (
        "def score(p):\n    send({'id': number + 7, 'result': {}})",
        3,
        (r"answered request \d+, request \d+",),
    ),
    "a vocabulary that is a text": (
        "def load(p):\n    return {'vocab_size': 'forty'}",
        3,
        ("answer to `load`", "at `vocab_size`: must be a whole number"),
    ),
    "a field that the protocol does not have": (
        "def load(p):\n    return {'vocab_size': V, 'colour': 1}",
        3,
        ("answer to `load`", "at `colour`: is not known here"),
    ),
    "a panic with forty lines behind it": (
        "def score(p):\n    sys.stderr.write('loading\\n' * 9 + 'panic: index out of range [7] with length 3\\n'"
        " + ''.join(f'main.go:{n} +0x{n}\\n' for n in range(40)))\n    sys.stderr.flush(); os._exit(2)",
        3,
        (
            r"ended during `score` \(exit code 2\); asked was request \d+: `score` of \d+ tokens in prefill",
            "panic: index out of range",
            "main.go:39",
        ),
    ),
    "a hang": (
        "def score(p):\n    time.sleep(600)",
        3,
        (r"no answer to `score` within 12 s", r"`score` of \d+ tokens in prefill"),
    ),
    "an end without a word": ("def load(p):\n    os._exit(0)", 3, (r"ended during `load` \(exit code 0\)", "of weights.json")),
    "another vocabulary": ("def load(p):\n    return {'vocab_size': 39}", 3, ("expected", "39")),
    "a tokenizer that adds BOS": (
        "def tokenize(p):\n    return {'token_ids': [1, *(b % V for b in p['text'].encode())]}",
        2,
        ("tokenizes the prompt otherwise than the reference: at index 0",),
    ),
    "a protocol of tomorrow": ("def hello(p):\n    return {'protocol': 2, 'engine': 'fake'}", 3, ("speaks protocol 2",)),
}
PROTOCOL: dict[str, tuple[str, tuple[str, ...]]] = {
    "protocol test: softmax": (ROWS.format(SOFTMAX), ("these are probabilities, not logits",)),
    "protocol test: the last row alone": (ANSWERS["the last row alone"][0], (r"one has 1 rows, 4 were asked for",)),
    "protocol test: big-endian": (ANSWERS["big-endian numbers"][0], ("written big-endian",)),
    "protocol test: transposed": (ROWS.format(ROW_MISTAKES["rows transposed"][0]), ("holds the rows transposed",)),
    "protocol test: a panic": (ANSWERS["a panic with forty lines behind it"][0], ("panic: index out of range", "main.go:39")),
    "protocol test: no newline": (ANSWERS["an answer without its newline"][0], (r"\d+ bytes came without a newline",)),
}


def mistakes() -> Iterator[Mistake]:
    """All of them."""
    for name, (change, code, words) in ROW_MISTAKES.items():
        yield Mistake(f"engine: {name}", engine(ROWS.format(change)), code, words, OVERFLOW)
    for name, (changes, code, words) in ANSWERS.items():
        timeout = 12 if name in ("a hang", "an answer without its newline") else 20
        never = () if name == "NaN" else OVERFLOW if "newline" in name else ("overflow",)
        yield Mistake(f"engine: {name}", engine(changes, timeout=timeout), code, words, never)
    for name, (changes, words) in PROTOCOL.items():
        code = 3 if "newline" in name else 1
        yield Mistake(name, engine(changes, "protocol", timeout=12), code, words)
    traced = "def score(p):\n    raise RuntimeError('no CUDA device')"
    words = ("no CUDA device", r"ended during `score`")
    yield Mistake("engine: an exception", engine(traced), 3, words)
