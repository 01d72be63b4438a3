//! An engine for logitproof in Rust, standard library only: the protocol, and the toy model in place of yours.
//! `rustc -O --edition 2021 engine.rs` makes it.

mod json;

use json::Json;
use std::io::{BufRead, Write};

const WIDTH: usize = 16;
const CONTEXT: usize = 4096;

/// Why a request is not answered: kind, field and message.
struct Fault(&'static str, &'static str, String);
type Answer<T> = Result<T, Fault>;

fn refused<T>(field: &'static str, message: impl Into<String>) -> Answer<T> {
    Err(Fault("refused", field, message.into()))
}

/// The engine. Replace it: `load` makes weights ready, `begin` empties the cache, `feed` turns a token into logits.
struct Toy {
    size: usize,
    embedding: Vec<f64>, // [V, WIDTH]
    head: Vec<f64>,      // [WIDTH, V]
    state: [f64; WIDTH],
}

impl Toy {
    fn load(path: &str) -> Answer<Toy> {
        let text = std::fs::read_to_string(path).or_else(|error| refused("model", format!("{path}: {error}")))?;
        let number = |name: &str| json::parse(&text)?.member(name)?.integer();
        let (Some(size @ 257..), Some(seed)) = (number("vocab_size"), number("seed")) else {
            return refused("model", format!("{path} is no toy model"));
        };
        let (size, begin) = (size as usize, mix(seed as u32));
        let uniform = |n: usize| (mix(begin.wrapping_add(n as u32)) as f64 / 4294967296.0 - 0.5) * 12f64.sqrt();
        let embedding = (0..size * WIDTH).map(uniform).collect();
        let head = (size * WIDTH..2 * size * WIDTH).map(uniform).collect();
        Ok(Toy { size, embedding, head, state: [0.0; WIDTH] })
    }

    fn begin(&mut self) {
        self.state = [0.0; WIDTH];
    }

    fn feed(&mut self, token: usize) -> Vec<f32> {
        for (i, state) in self.state.iter_mut().enumerate() {
            *state = (0.6 * *state + self.embedding[token * WIDTH + i]).tanh();
        }
        let column = |n: usize| (0..WIDTH).map(|i| self.state[i] * self.head[i * self.size + n]).sum::<f64>() as f32;
        (0..self.size).map(column).collect()
    }
}

fn mix(mut x: u32) -> u32 {
    x = (x ^ x >> 16).wrapping_mul(0x7FEB352D);
    x = (x ^ x >> 15).wrapping_mul(0x846CA68B);
    x ^ x >> 16
}

/// Parameters by method; one that is not known is refused, since it could change a logit.
const METHODS: [(&str, &[&str]); 5] = [
    ("hello", &["protocol", "options"]),
    ("load", &["model", "config"]),
    ("score", &["token_ids", "mode", "logits"]),
    ("generate", &["token_ids", "max_new_tokens", "stop", "logits"]),
    ("close", &[]),
];

/// The JSON of a result, or why there is none.
fn answer(engine: &mut Option<Toy>, method: &str, params: &Json) -> Answer<String> {
    let Some((_, names)) = METHODS.iter().find(|(name, _)| *name == method) else {
        return Err(Fault("unsupported", "method", format!("no method is called {method}")));
    };
    if let Some(name) = params.keys().find(|name| !names.contains(name)) {
        return refused("", format!("{method} has no parameter {name}"));
    }
    match method {
        "hello" => Ok(r#"{"protocol": 1, "engine": "toy-rust", "versions": {"toy-rust": "1"}, "modes": ["prefill", "decode"],
            "generate": true}"#
            .replace('\n', "")),
        "load" => {
            *engine = None;
            let Some(path) = params.member("model").and_then(Json::text) else {
                return refused("model", "the path of the weights is missing");
            };
            let toy = engine.insert(Toy::load(path)?);
            Ok(format!(r#"{{"vocab_size": {}, "context_length": {CONTEXT}, "eos_token_ids": [0]}}"#, toy.size))
        }
        "close" => Ok("{}".into()),
        _ => match engine {
            Some(engine) if method == "score" => score(engine, params),
            Some(engine) => generate(engine, params),
            None => refused("model", "no model is loaded"),
        },
    }
}

/// The toy has one way to compute; an engine with batches would score a prefill in one of them.
fn score(engine: &mut Toy, params: &Json) -> Answer<String> {
    let ids = tokens(engine, params, "token_ids")?;
    if !matches!(params.member("mode").and_then(Json::text), Some("prefill" | "decode")) {
        return refused("mode", "it is prefill or decode");
    }
    engine.begin();
    let rows: Vec<_> = ids.iter().map(|&id| engine.feed(id)).collect();
    Ok(format!("{{{}}}", write(engine, params, &rows)?))
}

fn generate(engine: &mut Toy, params: &Json) -> Answer<String> {
    let ids = tokens(engine, params, "token_ids")?;
    let stop = if params.member("stop").is_some() { list(engine, params, "stop")? } else { vec![] };
    let Some(most @ 0..) = params.member("max_new_tokens").and_then(Json::integer) else {
        return refused("max_new_tokens", "a number of tokens is missing");
    };
    engine.begin();
    let mut row = ids.iter().map(|&id| engine.feed(id)).last().unwrap_or_default();
    let (mut made, mut rows, mut finish) = (vec![], vec![], "length");
    while (made.len() as i64) < most && finish == "length" {
        let best = row.iter().enumerate().fold(0, |best, (n, value)| if *value > row[best] { n } else { best });
        made.push(best);
        rows.push(row);
        row = engine.feed(best);
        finish = if stop.contains(&best) { "stop" } else { "length" };
    }
    let tensor = write(engine, params, &rows)?;
    Ok(format!(r#"{{{tensor}, "token_ids": {made:?}, "finish": "{finish}"}}"#))
}

fn tokens(engine: &Toy, params: &Json, name: &'static str) -> Answer<Vec<usize>> {
    let ids = list(engine, params, name)?;
    if ids.is_empty() || ids.len() > CONTEXT {
        return refused(name, format!("{} tokens, 1 to {CONTEXT} are taken", ids.len()));
    }
    Ok(ids)
}

fn list(engine: &Toy, params: &Json, name: &'static str) -> Answer<Vec<usize>> {
    let Some(Json::List(items)) = params.member(name) else {
        return refused(name, "a list of token ids is missing");
    };
    let known = |item: &Json| item.integer().filter(|id| (0..engine.size as i64).contains(id)).map(|id| id as usize);
    let outside = || Fault("refused", name, format!("a token is outside the vocabulary of {}", engine.size));
    items.iter().map(|item| known(item).ok_or_else(outside)).collect()
}

/// Rows as raw little-endian float32, whole before the answer is sent; the JSON that announces them.
fn write(engine: &Toy, params: &Json, rows: &[Vec<f32>]) -> Answer<String> {
    let Some(path) = params.member("logits").and_then(Json::text) else {
        return refused("logits", "the file to write is missing");
    };
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(path, bytes).map_err(|error| Fault("environment", "logits", format!("{path}: {error}")))?;
    let (path, rows, size) = (json::quoted(path), rows.len(), engine.size);
    Ok(format!(r#""logits": {{"path": {path}, "dtype": "float32", "shape": [{rows}, {size}]}}"#))
}

fn main() -> std::io::Result<()> {
    let mut engine = None;
    for line in std::io::stdin().lock().split(b'\n') {
        let request = String::from_utf8(line?).ok().and_then(|text| json::parse(&text));
        let id = request.as_ref().and_then(|request| request.member("id")?.integer());
        let method = request.as_ref().and_then(|request| request.member("method")?.text());
        let nothing = Json::Object(vec![]);
        let answered = match (&request, id, method) {
            (Some(request), Some(_), Some(method)) => answer(&mut engine, method, request.member("params").unwrap_or(&nothing)),
            _ => refused("", "this line is no request"),
        };
        let closed = answered.is_ok() && method == Some("close");
        let said = answered.map(|result| format!(r#""result": {result}"#)).unwrap_or_else(|Fault(kind, field, message)| {
            format!(r#""error": {{"kind": "{kind}", "field": "{field}", "message": {}}}"#, json::quoted(&message))
        });
        let mut answers = std::io::stdout().lock();
        writeln!(answers, r#"{{"id": {}, {said}}}"#, id.unwrap_or(-1))?;
        answers.flush()?;
        if closed {
            break;
        }
    }
    Ok(())
}
