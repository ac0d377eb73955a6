//! Lower bounds and what is no bound; memory that is not known, and memory inside calls.

use mymalloc::measure::results::{Estimate, Results, SummaryRow};
use mymalloc::report;

use crate::{fixture, page, whole};

fn row<'a>(results: &'a mut Results, subject: &str) -> &'a mut SummaryRow {
    let mut rows = results.summary.iter_mut();
    rows.find(|row| row.subject == subject).expect("a row")
}

/// The label of a chart, which tells the values that it shows.
fn label(html: &str, start: &str) -> String {
    let at = html
        .find(start)
        .unwrap_or_else(|| panic!("{start} is missing"));
    html[at..]
        .split('"')
        .next()
        .expect("a quotation mark")
        .to_owned()
}

/// What a reader sees, in one line: the lines of a chart's text are elements of their own.
fn words(html: &str) -> String {
    let pieces = html
        .split('<')
        .map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text));
    let text: Vec<&str> = pieces.flat_map(str::split_whitespace).collect();
    text.join(" ")
}

/// `bump` on a fresh heap takes 200 ns, on a used one 4 ns.
fn with_dear_pages() -> Results {
    let mut results = fixture::results();
    let bump = row(&mut results, "bump");
    let exactly = |ns: f64| Estimate {
        median: ns,
        low: ns,
        high: ns,
    };
    bump.ns_per_operation = Some(exactly(200.0));
    bump.ns_per_operation_used_heap = Some(exactly(4.0));
    results
}

#[test]
fn the_bound_of_time_is_bump_on_a_used_heap() {
    let html = page(&with_dear_pages());
    let throughput = label(&html, "Bar chart of operations per second");
    assert!(throughput.contains("bump 250 M"), "{throughput}");
    assert!(html.contains("Time, lower bound: bump on a used heap: 4.00 ns"));
    // Its page faults on a fresh heap are no bound.
    let mut results = with_dear_pages();
    row(&mut results, "bump").ns_per_operation_used_heap = None;
    let html = page(&results);
    let throughput = label(&html, "Bar chart of operations per second");
    assert!(throughput.contains("bump not measured"), "{throughput}");
    assert!(html.contains("No lower bound: it takes a second replay"));
    assert!(html.contains("Time has no lower bound here"));
}

#[test]
fn live_bytes_are_the_bound_of_memory_and_page_runs_a_reference() {
    let html = page(&whole::whole());
    let seen = words(&html);
    for text in [
        "Memory, lower bound: live bytes:",
        "Memory, reference: page runs:",
        "an allocator that mixes classes can undercut",
        "Grey area, the lower bound: live bytes",
        "(lower bound: live bytes)",
        "(reference: page runs)",
        "free memory and headers between blocks",
        "metadata and pages never used",
        // A real program has none, and says so.
        "bump cannot serve a real program",
    ] {
        assert!(seen.contains(text), "{text} is missing");
    }
    assert!(!seen.contains("lower bound: live bytes in"));
    // Over the workloads as well.
    let front = label(&html, "Time against peak RSS over the workloads");
    let rest = &html[html.find(&front).expect("just found")..];
    let caption = &rest[..rest.find("</figure>").expect("it ends")];
    assert!(
        caption.contains("Time "),
        "no bound of time, nor that there is none"
    );
}

#[test]
fn memory_that_is_not_known_is_told_and_never_the_leanest() {
    let mut cast = fixture::cast();
    for (name, fragmentation) in [("mimalloc", 3.4), ("jemalloc", 1.01), ("system", 2.0)] {
        let member = cast.iter_mut().find(|member| member.name == name);
        member.expect("in the cast").fragmentation = fragmentation;
    }
    let mut results = fixture::assemble(&[("vim", cast)], 10, 3);
    let lean = "the leanest is jemalloc";
    assert!(report::table::render(&results, 10_000).contains(lean));
    let reason = "its blocks took up more than was found";
    for sample in &mut results.samples {
        if let (Some(memory), "jemalloc") = (&mut sample.memory, sample.subject.as_str()) {
            memory.unmeasurable = Some(reason.to_owned());
        }
    }
    // As the summary does.
    let jemalloc = row(&mut results, "jemalloc");
    (jemalloc.rss_peak_bytes, jemalloc.fragmentation_at_peak) = (None, None);
    jemalloc.rss_peak_ratio_to_baseline = None;
    assert!(!report::table::render(&results, 10_000).contains(lean));
    let html = page(&results);
    assert!(html.contains(&format!("jemalloc: not measurable, {reason}")));
    let line = label(&html, "Line chart of RSS");
    assert!(!line.contains("jemalloc"), "{line}");
}

#[test]
fn peaks_inside_calls_and_other_kinds_of_memory_are_told() {
    let mut results = fixture::results();
    for sample in &mut results.samples {
        let Some(memory) = &mut sample.memory else {
            continue;
        };
        memory.rss_peak_between_calls_bytes = memory.rss_peak_bytes;
        memory.is_peak_of_every_moment = true;
        memory.counter_difference_bytes = Some(0);
        if sample.subject == "mimalloc" {
            memory.rss_peak_bytes *= 2;
            memory.shared_bytes_at_peak = 3 << 20;
            memory.counter_difference_bytes = Some(1 << 20);
        }
    }
    let html = page(&results);
    for text in [
        "as when a reallocation copies, the peak was higher: mimalloc ",
        "In the peaks, besides private memory: mimalloc 3.00 MiB shared memory",
        "were off from an exact look at each page, as those of Linux 6.2 to 6.16 can be: mimalloc",
    ] {
        assert!(html.contains(text), "{text} is missing");
    }
    assert!(!html.contains("The kernel did not tell the peak"));
}
