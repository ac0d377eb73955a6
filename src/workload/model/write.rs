//! A model as the text of a definition.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::{Cell, Parameters};

/// What is said of a model beside its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Name of the workload and of the file.
    pub name: String,
    /// What it is.
    pub description: String,
    /// The programs whose behaviour it is meant to predict.
    pub stands_for: String,
    /// Who fitted it.
    pub origin: String,
    /// Why its result may mislead: the measured distances.
    pub bias: String,
}

const EXPLANATION: &str = "\
# A cell is so many blocks with one fate:
#   [count, call, old size, size, role, end, how, ender]
#   call, sizes, role: numbers in the lists above, from 0; the old size is that of the block given to realloc
#   end: 0 never; 1 to 127 a class of lifetimes in operations (exact below 8, then four classes to the
#        octave: 8, 10, 12, 14, 16, 20, ...); 1000 + n in window n
#   how: 0 by free, 1 by realloc
#   ender: 0 the thread that made it, else the role of the thread that ends it, from 1
# A thread is [first window, last window, operations].
";

/// The text of a definition of kind \"model\".
pub fn definition(told: &Told, parameters: &Parameters, seed: u64) -> String {
    let mut text = String::new();
    for (key, value) in [
        ("name", told.name.as_str()),
        ("kind", "model"),
        ("description", &told.description),
        ("stands_for", &told.stands_for),
        ("origin", &told.origin),
        (
            "licence",
            "Not stated: whoever recorded the program decides",
        ),
        ("bias", &told.bias),
    ] {
        // Into a string: cannot fail.
        let _ = writeln!(text, "{key} = {}", quoted(value));
    }
    let calls: Vec<String> = parameters
        .calls
        .iter()
        .map(|call| quoted(&call.name()))
        .collect();
    let _ = write!(
        text,
        "tags = [\"model\"]\n\n{EXPLANATION}[model]\nseed = {seed}\nsized_percent = {}\n\
         calls = [{}]\nsizes = [\n{}]\nthreads = [\n",
        parameters.sized_percent,
        calls.join(", "),
        lines(&parameters.sizes),
    );
    for role in &parameters.threads {
        let members: Vec<String> = role
            .iter()
            .map(|[first, last, operations]| format!("[{first},{last},{operations}]"))
            .collect();
        let _ = writeln!(text, "[{}],", members.join(","));
    }
    text.push_str("]\n");
    for phase in &parameters.phases {
        let _ = write!(
            text,
            "\n[[model.phases]]\nbirths = [\n{}]\nlasting_bytes = [\n{}]\n\
             order_percent = [\n{}]\nrepeat_percent = {}\n\
             cells = [\n",
            lines(&phase.births),
            lines(&phase.lasting_bytes),
            lines(&phase.order_percent),
            phase.repeat_percent,
        );
        for row in phase.cells.iter().map(Cell::row) {
            let numbers: Vec<String> = row.iter().map(u64::to_string).collect();
            let _ = writeln!(text, "[{}],", numbers.join(","));
        }
        text.push_str("]\n");
    }
    text
}

/// Numbers, sixteen to the line.
fn lines<T: ToString>(numbers: &[T]) -> String {
    let line = |chunk: &[T]| {
        let words: Vec<String> = chunk.iter().map(ToString::to_string).collect();
        format!("{},\n", words.join(", "))
    };
    numbers.chunks(16).map(line).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
