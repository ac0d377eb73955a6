//! The page and the tables of a made-up comparison.

use super::*;
use crate::measure::fidelity::{SCHEMA_VERSION, Unpredicted};
use crate::measure::results::{Estimate, Touch};

fn results() -> Results {
    let text = include_str!("../../../tests/data/results-v2.json");
    serde_json::from_str(text).expect("a results file")
}

const AGREEMENT: Agreement = Agreement {
    pairs: 6,
    told_apart: 4,
    ordered_right: 3,
};

fn estimate(median: f64) -> Estimate {
    Estimate {
        median,
        low: median * 0.99,
        high: median * 1.01,
    }
}

fn compared(ratios: &[(f64, f64)]) -> Fidelity {
    let subjects: Vec<Prediction> = (1..)
        .zip(ratios)
        .map(|(number, (real, predicted))| Prediction {
            subject: format!("allocator <{number}>"),
            real_time: estimate(*real),
            predicted_time: estimate(*predicted),
            real_rss: Some(real * 2.0),
            predicted_rss: Some(predicted * 2.0),
            real_allocator_rss: None,
            predicted_allocator_rss: None,
            user_ns: 0.0,
            system_ns: 0.0,
            page_faults: [0.0; 2],
            replay_ns: 0.0,
            start_up_ns: 0.0,
            start_up_faults: 0.0,
        })
        .collect();
    let program = ProgramFidelity {
        name: "program-some&thing".to_owned(),
        program_ns: 1e9,
        replay_ns: 1e8,
        other_rss_bytes: None,
        operations: [1000, 1100],
        processes: 2,
        started: 2,
        replay_noise: Some(0.01),
        agreement: AGREEMENT,
        unpredicted: vec![Unpredicted {
            subject: "absent".to_owned(),
            reason: "it failed".to_owned(),
        }],
        noise: Some(0.012),
        rank_correlation: Some(0.8),
        time_error: Some(0.034),
        rss_error: None,
        subjects,
        explanations: vec!["allocator <1>: 7 ms more than predicted".to_owned()],
    };
    let policy = |touch| Policy {
        touch,
        ranked_well: 0,
        ranked: 1,
        agreement: AGREEMENT,
        time_error: Some(0.034),
        rss_error: None,
        programs: vec![program.clone()],
    };
    Fidelity {
        schema_version: SCHEMA_VERSION,
        baseline: "system".to_owned(),
        policies: vec![policy(Touch::Page), policy(Touch::All)],
    }
}

#[test]
fn tables_fit_the_terminal() {
    let fidelity = compared(&[(0.9, 0.95), (1.2, 1.1), (12.0, 3.0)]);
    let text = render(&fidelity, &results(), 80);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    for expected in [
        "Touch page:",
        "Touch all:",
        "of 1 programs",
        "0.80",
        "some&thing",
        "3.4 %",
        "of 4 pairs of allocators",
        "3 of 4",
        "by all",
        "absent",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert!(text.contains("7 ms more than predicted"), "{text}");
}

#[test]
fn pairs_that_nobody_can_tell_apart_are_not_counted_as_right() {
    let none = Agreement {
        told_apart: 0,
        ordered_right: 0,
        ..AGREEMENT
    };
    let clause = pairs_clause(&none);
    assert_eq!(
        clause,
        "the programs tell none of the 6 pairs of allocators apart"
    );
    assert!(pairs_clause(&AGREEMENT).ends_with("(of 6), 3 are ordered right"));
}

#[test]
fn the_page_is_well_formed_and_escaped() {
    for ratios in [
        &[(0.9, 0.95), (1.2, 1.1)][..],
        &[(1.0, 1.0)],
        &[(20.0, 0.1), (1.0, 3.0)],
        &[],
    ] {
        let fidelity = compared(ratios);
        let (html, charts) = page(&fidelity, &results()).expect("drawn");
        assert_eq!(charts.len(), if ratios.is_empty() { 0 } else { 2 });
        for (name, svg) in &charts {
            roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(!html.contains("allocator <") && !html.contains("some&thing"));
        // But for the first line and the tags that are never closed, HTML as XML.
        let xml = html
            .replacen("<!DOCTYPE html>", "", 1)
            .replace("<meta charset=\"utf-8\">", "")
            .lines()
            .filter(|line| !line.trim_start().starts_with("<meta "))
            .collect::<Vec<_>>()
            .join("\n");
        if let Err(error) = roxmltree::Document::parse(xml.trim()) {
            panic!("{error}");
        }
    }
}

#[test]
fn an_empty_comparison_says_so() {
    let fidelity = Fidelity {
        policies: Vec::new(),
        ..compared(&[])
    };
    let folder = tempfile::tempdir().expect("a folder");
    let paths = write(&fidelity, &results(), folder.path()).expect("written");
    let html = std::fs::read_to_string(paths.index).expect("there");
    assert!(html.contains("Nothing could be compared"));
    let json = std::fs::read_to_string(folder.path().join("fidelity.json")).expect("there");
    let read: Fidelity = serde_json::from_str(&json).expect("the same form");
    assert_eq!(read, fidelity);
}
