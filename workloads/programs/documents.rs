//! Reads, changes and writes JSON documents: what many services in Rust do all day. The documents are
//! made here, from a fixed seed; the sum of what was written is printed. Usage: documents [REQUESTS]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    lines: Vec<Line>,
    tags: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    article: String,
    count: u32,
    cents: u64,
}

/// Park and Miller's generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0 * 16_807 % 2_147_483_647;
        self.0 % end
    }

    fn word(&mut self, longest: u64) -> String {
        let letters = 2 + self.below(longest);
        (0..letters)
            .map(|_| char::from(b'a' + self.below(26) as u8))
            .collect()
    }
}

fn order(id: u64, random: &mut Random) -> Order {
    Order {
        id,
        customer: random.word(24),
        note: (random.below(3) == 0).then(|| random.word(200)),
        lines: (0..1 + random.below(12))
            .map(|_| Line {
                article: random.word(14),
                count: 1 + random.below(9) as u32,
                cents: random.below(100_000),
            })
            .collect(),
        tags: (0..random.below(6))
            .map(|_| (random.word(8), random.word(16)))
            .collect(),
    }
}

/// One request: text in, text out; half by types, half by a tree of values.
fn answer(request: &str, by_value: bool) -> String {
    if by_value {
        let mut value: Value = serde_json::from_str(request).expect("we wrote it");
        let cents: u64 = value["lines"]
            .as_array()
            .expect("an array")
            .iter()
            .filter_map(|line| Some(line["count"].as_u64()? * line["cents"].as_u64()?))
            .sum();
        value["total"] = Value::from(cents);
        value["customer"] = Value::from(value["customer"].as_str().map(str::to_uppercase));
        return value.to_string();
    }
    let mut order: Order = serde_json::from_str(request).expect("we wrote it");
    order.lines.sort_by(|a, b| a.article.cmp(&b.article));
    order.tags.insert("seen".into(), order.id.to_string());
    order.note = None;
    serde_json::to_string_pretty(&order).expect("it has no maps with odd keys")
}

fn main() {
    /// Answers that are kept, as a cache does; the oldest makes room.
    const KEPT: usize = 1_500;
    let requests = std::env::args().nth(1).map_or(12_000, |count| {
        count.parse::<u64>().expect("REQUESTS is a whole number")
    });
    let mut random = Random(1);
    let mut cache: Vec<(u64, String)> = Vec::new();
    let (mut bytes, mut sum) = (0, 0_u64);
    for id in 0..requests {
        let request = serde_json::to_string(&order(id, &mut random)).expect("as above");
        let answer = answer(&request, id % 2 == 0);
        bytes += answer.len();
        sum = answer.bytes().fold(sum, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        if cache.len() == KEPT {
            let oldest = random.below(KEPT as u64) as usize;
            cache.swap_remove(oldest);
        }
        cache.push((id, answer));
    }
    let kept: usize = cache.iter().map(|(_, answer)| answer.len()).sum();
    println!("{requests} documents, {bytes} bytes, {kept} kept, sum {sum:016x}");
}
