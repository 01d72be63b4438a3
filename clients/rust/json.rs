//! As much JSON as requests need.

pub enum Json {
    Word,
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn member(&self, name: &str) -> Option<&Json> {
        let Json::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let members = if let Json::Object(members) = self { &members[..] } else { &[] };
        members.iter().map(|(key, _)| key.as_str())
    }

    pub fn text(&self) -> Option<&str> {
        if let Json::Text(text) = self { Some(text) } else { None }
    }

    pub fn integer(&self) -> Option<i64> {
        match self {
            Json::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            _ => None,
        }
    }
}

/// The value that `text` is, or None where it is not JSON.
pub fn parse(text: &str) -> Option<Json> {
    let mut rest = text.trim();
    let made = value(&mut rest, 0)?;
    rest.trim_start().is_empty().then_some(made)
}

fn eat(rest: &mut &str, word: &str) -> bool {
    *rest = rest.trim_start();
    let found = rest.strip_prefix(word);
    *rest = found.unwrap_or(rest);
    found.is_some()
}

fn value(rest: &mut &str, depth: usize) -> Option<Json> {
    if depth > 32 {
        return None;
    }
    if eat(rest, "{") {
        let member = |rest: &mut &str| {
            let key = if eat(rest, "\"") { string(rest)? } else { return None };
            if eat(rest, ":") { Some((key, value(rest, depth + 1)?)) } else { None }
        };
        return members(rest, "}", member).map(Json::Object);
    }
    if eat(rest, "[") {
        return members(rest, "]", |rest| value(rest, depth + 1)).map(Json::List);
    }
    if eat(rest, "\"") {
        return string(rest).map(Json::Text);
    }
    if ["true", "false", "null"].iter().any(|word| eat(rest, word)) {
        return Some(Json::Word);
    }
    let end = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
    let (number, after) = rest.split_at(end);
    *rest = after;
    number.parse().ok().map(Json::Number)
}

fn members<T>(rest: &mut &str, closing: &str, one: impl Fn(&mut &str) -> Option<T>) -> Option<Vec<T>> {
    let mut made = vec![];
    while !eat(rest, closing) {
        if !made.is_empty() && !eat(rest, ",") {
            return None;
        }
        made.push(one(rest)?);
    }
    Some(made)
}

fn string(rest: &mut &str) -> Option<String> {
    let mut units: Vec<u16> = vec![];
    let mut characters = rest.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => {
                *rest = &rest[at + 1..];
                return Some(String::from_utf16_lossy(&units));
            }
            '\\' => units.push(match characters.next()?.1 {
                'u' => {
                    let code = rest.get(at + 2..at + 6)?;
                    characters.nth(3)?;
                    u16::from_str_radix(code, 16).ok()?
                }
                'n' => 10,
                't' => 9,
                'r' => 13,
                'b' => 8,
                'f' => 12,
                other => other as u16,
            }),
            c => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
        }
    }
    None
}

pub fn quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if (c as u32) < 0x20 => format!("\\u{:04x}", c as u32),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}
