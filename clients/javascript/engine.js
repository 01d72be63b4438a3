// An engine for logitproof in JavaScript (node, no packages): the protocol, and the toy model in place of yours.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");

// The engine. Replace this class: `load` makes weights ready, `feed` turns one token into a row of logits.

const WIDTH = 16;

class Toy {
  static name = "toy-javascript";
  static version = "1";

  /** Makes the weights at `path` ready; throws a Refusal that names the file where it cannot. */
  load(path) {
    let record;
    try {
      record = JSON.parse(fs.readFileSync(path, "utf8"));
    } catch (error) {
      throw new Refusal(`${path} is no toy model: ${error.message}`, "model");
    }
    const { vocab_size: size, seed } = record;
    if (!Number.isInteger(size) || size < 257 || !Number.isInteger(seed)) {
      throw new Refusal(`${path} is no toy model: vocab_size ${size}, seed ${seed}`, "model");
    }
    const weights = Float64Array.from({ length: 2 * size * WIDTH }, (_, n) => weight(seed, n));
    this.embedding = weights.subarray(0, size * WIDTH);
    this.head = weights.subarray(size * WIDTH);
    this.size = size;
    return { vocab_size: size, context_length: 4096, eos_token_ids: [0] };
  }

  /** An empty cache: what was fed before must not matter. */
  begin() {
    this.state = new Float64Array(WIDTH);
  }

  /** The logits of the token after `token`, for all that was fed since `begin`. */
  feed(token) {
    this.state = this.state.map((old, i) => Math.tanh(0.6 * old + this.embedding[token * WIDTH + i]));
    return Float32Array.from({ length: this.size }, (_, n) =>
      this.state.reduce((sum, value, i) => sum + value * this.head[i * this.size + n], 0),
    );
  }
}

/** The n-th weight: uniform, of variance 1. */
function weight(seed, n) {
  return (mix((mix(seed) + n) >>> 0) / 2 ** 32 - 0.5) * Math.sqrt(12);
}

function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

// The protocol.

class Refusal extends Error {
  constructor(message, field = "", kind = "refused") {
    super(message);
    Object.assign(this, { field, kind });
  }
}

const engine = new Toy();
let model = null;

// Parameters by method; one that is not known is refused, since it could change a logit.
const METHODS = {
  hello: ["protocol", "options"],
  load: ["model", "config"],
  score: ["token_ids", "mode", "logits"],
  generate: ["token_ids", "max_new_tokens", "stop", "logits"],
  close: [],
};

const ANSWERS = {
  hello: () => ({
    protocol: 1,
    engine: Toy.name,
    versions: { [Toy.name]: Toy.version, node: process.versions.node },
    modes: ["prefill", "decode"],
    generate: true,
  }),

  load({ model: path }) {
    model = null;
    if (typeof path !== "string") throw new Refusal("the path of the weights is missing", "model");
    model = engine.load(path);
    return model;
  },

  // The toy has one way to compute; an engine with batches would score a prefill in one of them.
  score({ token_ids: ids, mode, logits: path }) {
    check(ids, "token_ids");
    if (ids.length === 0) throw new Refusal("there is nothing to score", "token_ids");
    if (mode !== "prefill" && mode !== "decode") throw new Refusal(`no mode is called ${mode}`, "mode");
    engine.begin();
    return { logits: write(path, ids.map((id) => engine.feed(id))) };
  },

  generate({ token_ids: ids, max_new_tokens: most, stop = [], logits: path }) {
    check(ids, "token_ids");
    check(stop, "stop");
    if (ids.length === 0) throw new Refusal("there is nothing to continue", "token_ids");
    if (!Number.isInteger(most) || most < 0) throw new Refusal(`${most} new tokens`, "max_new_tokens");
    engine.begin();
    let row;
    for (const id of ids) row = engine.feed(id);
    const made = [];
    const rows = [];
    let finish = "length";
    while (made.length < most && finish === "length") {
      rows.push(row);
      made.push(row.indexOf(row.reduce((best, value) => Math.max(best, value))));
      if (stop.includes(made.at(-1))) finish = "stop";
      else row = engine.feed(made.at(-1));
    }
    return { token_ids: made, logits: write(path, rows), finish };
  },

  close: () => ({}),
};

function check(ids, field) {
  if (model === null) throw new Refusal("no model is loaded", "model");
  if (!Array.isArray(ids)) throw new Refusal("a list of token ids is missing", field);
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= model.vocab_size) {
      throw new Refusal(`${id} is no token of the vocabulary of ${model.vocab_size}`, field);
    }
  }
}

/** Rows as raw little-endian float32, whole before the answer is sent. */
function write(path, rows) {
  if (typeof path !== "string") throw new Refusal("the file to write is missing", "logits");
  const bytes = Buffer.alloc(rows.length * model.vocab_size * 4);
  rows.forEach((row, t) => row.forEach((value, n) => bytes.writeFloatLE(value, (t * model.vocab_size + n) * 4)));
  fs.writeFileSync(path, bytes);
  return { path, dtype: "float32", shape: [rows.length, model.vocab_size] };
}

function answer(method, params) {
  if (!Object.hasOwn(METHODS, method)) throw new Refusal(`no method is called ${method}`, "method", "unsupported");
  for (const name of Object.keys(params)) {
    if (!METHODS[method].includes(name)) throw new Refusal(`${method} has no parameter ${name}`, name);
  }
  return ANSWERS[method](params);
}

/** Answers a line; says whether the engine shall go on. */
function serve(line) {
  let id = -1;
  try {
    const request = parse(line);
    id = request.id;
    send({ id, result: answer(request.method, request.params ?? {}) });
    return request.method !== "close";
  } catch (error) {
    const kind = error.kind ?? (error.syscall ? "environment" : "failed");
    send({ id, error: { kind, message: error.message, field: error.field ?? "" } });
    return true;
  }
}

function parse(line) {
  let request = null;
  try {
    request = JSON.parse(line);
  } catch (error) {
    throw new Refusal(`this line is not JSON: ${error.message}`);
  }
  if (!Number.isInteger(request?.id) || typeof request.method !== "string") throw new Refusal("this line is no request");
  return request;
}

function send(message) {
  fs.writeSync(1, JSON.stringify(message) + "\n");
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (!serve(line)) break;
  }
  process.exit(0);
}

main();
