//! What a journal's samples are samples of.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::results::{ProgramRecord, Settings, SubjectRecord, Tool};

/// What was to be measured. Samples taken under another plan must not mix with these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The program that measures, with its build.
    pub tool: Tool,
    /// How.
    pub settings: Settings,
    /// Which part of the workloads, if not all: "2/4".
    pub shard: Option<String>,
    /// The workloads, by name.
    pub workloads: BTreeMap<String, PlannedWorkload>,
    /// The subjects with their builds.
    pub subjects: Vec<SubjectRecord>,
}

/// What a workload consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedWorkload {
    /// The [`crate::workload::digest`] of its definition and data.
    pub sha256: String,
    /// The real program, with its version and builds, if it is one.
    pub program: Option<ProgramRecord>,
}

impl Plan {
    /// The first few differences of another plan, in words; `None` if there are none. What a workload
    /// consists of matters if it is among those with samples.
    pub(super) fn difference(
        &self,
        now: &Self,
        with_samples: &BTreeSet<&str>,
    ) -> Result<Option<String>, serde_json::Error> {
        let mut then = self.clone();
        for (name, workload) in &mut then.workloads {
            if let Some(now) = now.workloads.get(name)
                && !with_samples.contains(name.as_str())
            {
                workload.clone_from(now);
            }
        }
        let (then, now) = (serde_json::to_value(then)?, serde_json::to_value(now)?);
        let mut differences = Vec::new();
        compare("", &then, &now, &mut differences);
        if differences.is_empty() {
            return Ok(None);
        }
        const SHOWN: usize = 3;
        let more = match differences.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        differences.truncate(SHOWN);
        Ok(Some(differences.join("; ") + &more))
    }
}

/// Adds a sentence for each place where two plans differ.
fn compare(place: &str, then: &Value, now: &Value, differences: &mut Vec<String>) {
    let null = Value::Null;
    let below = |key: &str| match place {
        "" => key.to_owned(),
        _ => format!("{place}.{key}"),
    };
    match (then, now) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned();
                let (then, now) = (
                    value(one).unwrap_or(Value::Null),
                    value(other).unwrap_or(Value::Null),
                );
                compare(&below(key), &then, &now, differences);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            // Subjects go by their names.
            let keyed = |values: &[Value]| -> Value {
                let name = |(index, value): (usize, &Value)| {
                    let name = value.get("name").and_then(Value::as_str);
                    let key = name.map_or_else(|| index.to_string(), str::to_owned);
                    (key, value.clone())
                };
                Value::Object(values.iter().enumerate().map(name).collect())
            };
            compare(place, &keyed(one), &keyed(other), differences);
        }
        _ if then == now => {}
        _ => differences.push(match (then == &null, now == &null) {
            (true, _) => format!("{place} was not there, now {}", brief(now)),
            (_, true) => format!("{place} was {}, now is not there", brief(then)),
            _ => format!("{place} was {}, now {}", brief(then), brief(now)),
        }),
    }
}

/// A value in a sentence: of an object only that there is one.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => "given".to_owned(),
        other => {
            let text = other.to_string();
            let cut: String = text.chars().take(40).collect();
            if cut.len() < text.len() {
                cut + "…"
            } else {
                cut
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_between_plans_is_named() {
        let then = json!({"settings": {"seed": 1, "touch": "page"},
            "subjects": [{"name": "a", "build": "12"}, {"name": "b", "build": null}]});
        let now = json!({"settings": {"seed": 1, "touch": "all"},
            "subjects": [{"name": "a", "build": "13"}, {"name": "c", "build": null}]});
        let mut differences = Vec::new();
        compare("", &then, &then, &mut differences);
        assert_eq!(differences, Vec::<String>::new());
        compare("", &then, &now, &mut differences);
        assert_eq!(
            differences,
            [
                "settings.touch was \"page\", now \"all\"",
                "subjects.a.build was \"12\", now \"13\"",
                "subjects.b was given, now is not there",
                "subjects.c was not there, now given",
            ]
        );
    }
}
