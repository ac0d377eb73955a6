//! The sentence that recommends: what it claims, and what it must not.

use mymalloc::measure::results::{Results, Status, Verdict};
use mymalloc::report;

use super::{fixture, page};

fn sentence(cast: Vec<fixture::Behaviour>, blocks: u32) -> String {
    let results = fixture::assemble(&[("vim", cast)], blocks, 1);
    let text = report::table::render(&results, 10_000);
    let lines: Vec<&str> = text.lines().collect();
    let own = report::sentences(&results).remove(0);
    let at = lines
        .iter()
        .position(|line| *line == own)
        .unwrap_or_else(|| panic!("{own} is not in\n{text}"));
    lines[at..].join("\n")
}

#[test]
fn the_sentence_names_a_faster_allocator_and_its_price() {
    let text = sentence(fixture::cast(), 10);
    assert!(text.starts_with("On vim, mimalloc is faster on a fresh heap: it takes 32 % less time than system (95 % interval: 31 % to 33 % less), but needs 10 % more memory"), "{text}");
    assert!(
        text.contains("Measured in 10 blocks") && text.contains("holds after correction"),
        "{text}"
    );
    assert!(text.contains("the leanest is jemalloc"), "{text}");
    assert!(
        text.contains("pagelist (timed out) and tcmalloc (crashed)"),
        "{text}"
    );
    assert!(
        !text.contains("bump") && !text.contains("null"),
        "floors are never recommended: {text}"
    );
}

#[test]
fn the_sentence_claims_nothing_that_the_interval_does_not_show() {
    let mut cast = fixture::cast();
    fixture::time(&mut cast, "mimalloc", 23.5, 0.05);
    fixture::time(&mut cast, "jemalloc", 30.0, 0.05);
    let text = sentence(cast.clone(), 10);
    assert!(text.starts_with("On vim, no allocator was shown to be faster than system on a fresh heap: the nearest, mimalloc, is not distinguishable from it"), "{text}");
    assert!(text.contains("1 other is slower"), "{text}");
    assert!(
        text.contains("the leanest is jemalloc, at 24 % more time than the baseline,"),
        "the clause stands beside the one it is about: {text}"
    );

    fixture::time(&mut cast, "mimalloc", 16.0, 0.05);
    fixture::time(&mut cast, "jemalloc", 16.5, 0.05);
    let text = sentence(cast, 10);
    assert!(
        text.contains("Not told apart from mimalloc: jemalloc."),
        "{text}"
    );
}

#[test]
fn our_own_is_named_as_ours_when_it_wins() {
    let mut cast = fixture::cast();
    fixture::time(&mut cast, "pagelist", 10.0, 0.02);
    let text = sentence(cast.clone(), 10);
    assert!(text.starts_with("On vim, pagelist is faster"), "{text}");
    assert!(
        text.contains("pagelist is this project's own. Among the others, mimalloc is faster"),
        "{text}"
    );
    let html = page(&fixture::assemble(&[("vim", cast)], 10, 1));
    let rankings = &html[html.find("Without ours").unwrap()..];
    let rankings = &rankings[..rankings.find("</table>").unwrap()];
    assert!(rankings.contains("mimalloc") && !rankings.contains("pagelist"));
}

#[test]
fn the_sentence_says_when_blocks_are_too_few() {
    let text = sentence(fixture::cast(), 3);
    assert!(
        text.contains("mimalloc looks faster")
            && text.contains("Measured in 3 blocks")
            && text.contains("too few"),
        "{text}"
    );
    assert!(!text.contains("holds after correction"), "{text}");
}

#[test]
fn without_a_baseline_there_is_no_verdict() {
    let mut cast = fixture::cast();
    fixture::fail(&mut cast, "system", Status::Crashed, "signal 6");
    let text = sentence(cast, 10);
    assert!(
        text.starts_with("No verdict on vim: the baseline, system, has no result (crashed)"),
        "{text}"
    );
    assert!(text.contains("by mimalloc"), "{text}");
}

#[test]
fn alone_or_with_floors_only_there_is_nothing_to_recommend() {
    let mut cast = fixture::cast();
    cast.retain(|member| {
        member.name == "system" || member.kind == mymalloc::measure::results::SubjectKind::Floor
    });
    assert!(
        sentence(cast.clone(), 10).starts_with("Only the baseline, system, was measured on vim")
    );
    fixture::fail(&mut cast, "system", Status::TimedOut, "no answer");
    let text = sentence(cast, 10);
    assert!(
        text.starts_with("No allocator finished on vim") && text.contains("nothing to recommend"),
        "{text}"
    );
}

#[test]
fn noise_lowers_the_confidence_and_most_slower_is_mixed() {
    let mut results = fixture::results();
    assert!(page(&results).contains("<b>likely, but see the warnings</b>"));
    results.warnings.clear();
    assert!(page(&results).contains("<b>sure</b>"));
    let mut cast = fixture::cast();
    fixture::time(&mut cast, "mimalloc", 24.3, 0.05);
    fixture::time(&mut cast, "jemalloc", 30.0, 0.01);
    fixture::time(&mut cast, "tcmalloc", 40.0, 0.01);
    fixture::time(&mut cast, "pagelist", 2614.85, 0.01);
    let html = page(&fixture::assemble(&[("vim", cast.clone())], 10, 3));
    assert!(html.contains("<b>mixed</b>"));
    cast.retain(|member| ["system", "pagelist"].contains(&member.name));
    let text = sentence(cast, 10);
    assert!(
        text.contains("the nearest, pagelist, takes 108.5 times its time ("),
        "{text}"
    );
}

#[test]
fn a_dear_winner_is_told_with_the_lean_one_that_is_faster_too() {
    let mut cast = fixture::cast();
    for (name, fragmentation) in [("mimalloc", 3.4), ("jemalloc", 1.28)] {
        let member = cast.iter_mut().find(|member| member.name == name).unwrap();
        member.fragmentation = fragmentation;
    }
    let text = sentence(cast, 10);
    assert!(
        text.contains("Faster for less memory than mimalloc: jemalloc takes 18 % less time than system (95 % interval: 16 % to 19 % less), with 7.6 % more memory"),
        "{text}"
    );
    assert!(
        text.contains("the leanest is system, the baseline, with 12.4 MiB at its peak, against 35"),
        "{text}"
    );
}

#[test]
fn a_used_heap_that_tells_another_story_is_told() {
    let mut results = fixture::results();
    assert!(!report::table::render(&results, 10_000).contains("another story"));
    let row = |results: &mut Results, subject: &str, values: [f64; 3]| {
        let row = results
            .summary
            .iter_mut()
            .find(|row| row.subject == subject)
            .unwrap();
        let ratio = row.ratio_to_baseline_used_heap.as_mut().unwrap();
        (ratio.low, ratio.median, ratio.high) = (values[0], values[1], values[2]);
        row.verdict_used_heap = if values[2] < 1.0 {
            Verdict::Faster
        } else {
            Verdict::NotDistinguishable
        };
    };
    row(&mut results, "mimalloc", [0.6, 0.69, 1.02]);
    let text = report::table::render(&results, 10_000);
    let told = "another story: mimalloc is not distinguishable from system (95 % interval: 0.6";
    assert!(text.contains(told), "{text}");
    // No median is a difference where the interval says nothing; nor is an order that hangs on it.
    row(&mut results, "mimalloc", [0.027, 0.99, 20.86]);
    let text = report::table::render(&results, 10_000);
    let line = text.lines().find(|line| line.contains("another story"));
    let line = line.expect("the fresh heap's verdict does not hold there");
    assert!(
        line.contains("is not distinguishable from system"),
        "{line}"
    );
    assert!(
        !line.contains(" % less") && !line.contains(" % more"),
        "{line}"
    );
    assert!(!line.contains("the order there"), "{line}");
    // With no verdict on either heap, there are no two stories.
    let mut cast = fixture::cast();
    fixture::time(&mut cast, "mimalloc", 23.5, 0.05);
    fixture::time(&mut cast, "jemalloc", 30.0, 0.02);
    let mut none = fixture::assemble(&[("vim", cast)], 10, 1);
    row(&mut none, "mimalloc", [0.027, 0.61, 20.86]);
    let text = report::table::render(&none, 10_000);
    assert!(!text.contains("another story"), "{text}");
    row(&mut results, "mimalloc", [0.5, 0.51, 0.52]);
    let text = report::table::render(&results, 10_000);
    assert!(
        text.contains("another story: mimalloc takes 49 % less time than system"),
        "{text}"
    );
    row(&mut results, "mimalloc", [0.7, 0.71, 0.72]);
    row(&mut results, "jemalloc", [0.5, 0.51, 0.52]);
    let text = report::table::render(&results, 10_000);
    assert!(
        text.contains("the order there is jemalloc before mimalloc"),
        "{text}"
    );
}
