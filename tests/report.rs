//! Reports from made-up results: what a reader must find, what must not get through.

#[path = "report/bounds.rs"]
mod bounds;
#[path = "report/compare.rs"]
mod compare;
#[path = "report/compare_files.rs"]
mod compare_files;
#[path = "report/fixture.rs"]
mod fixture;
#[path = "report/merged.rs"]
mod merged;
#[path = "report/places.rs"]
mod places;
#[path = "report/rank.rs"]
mod rank;
#[path = "report/sentence.rs"]
mod sentence;
#[path = "report/several.rs"]
mod several;
#[path = "report/whole.rs"]
mod whole;

use std::path::{Path, PathBuf};

use mymalloc::measure::results::{Results, SCHEMA_VERSION, Status};
use mymalloc::report;
use proptest::prelude::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn page(results: &Results) -> String {
    let folder = folder();
    let paths = report::write(results, folder.path()).unwrap();
    std::fs::read_to_string(paths.index).unwrap()
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/results-v2.json")
}

#[test]
fn the_schema_is_the_one_that_was_published() {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("results-v2.json");
    report::write_results(&whole::small(), &made).unwrap();
    let made = std::fs::read_to_string(made).unwrap();
    let kept = std::fs::read_to_string(golden()).unwrap();
    assert!(
        made == kept,
        "the layout of results.json changed: raise SCHEMA_VERSION and keep a golden file of the new version \
         (this one was written to CARGO_TARGET_TMPDIR/results-v2.json)"
    );
    assert_eq!(report::read_results(&golden()).unwrap(), whole::small());
}

#[test]
fn the_summary_has_the_promised_fields() {
    let text = std::fs::read_to_string(golden()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["schema_version"], SCHEMA_VERSION);
    let rows = json["summary"].as_array().unwrap();
    assert_eq!(rows.len(), whole::small().summary.len());
    for row in rows {
        for field in [
            "workload",
            "subject",
            "status",
            "reason",
            "operations",
            "ns_per_operation",
            "ratio_to_baseline",
            "rss_peak_bytes",
            "live_bytes_peak",
            "fragmentation_at_peak",
            "rss_retained_bytes",
        ] {
            assert!(row.get(field).is_some(), "{field} is missing in {row}");
        }
    }
    let mimalloc = rows
        .iter()
        .find(|row| row["subject"] == "mimalloc")
        .unwrap();
    for field in ["ns_per_operation", "ratio_to_baseline"] {
        for end in ["median", "low", "high"] {
            assert!(mimalloc[field][end].is_f64(), "{field}.{end}");
        }
    }
    assert_eq!(mimalloc["status"], "ok");
    assert_eq!(
        rows.iter()
            .find(|row| row["subject"] == "pagelist")
            .unwrap()["status"],
        "timed_out"
    );
}

#[test]
fn unusable_results_files_are_told_in_one_line() {
    let folder = folder();
    let path = folder.path().join("results.json");
    let message = |content: Option<&[u8]>| {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let message = report::read_results(&path).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        assert!(message.contains("results.json"), "{message}");
        message
    };
    assert!(message(None).contains("no such file"));
    assert!(message(Some(b"")).contains("empty"));
    assert!(message(Some(b"\xff\xfe\x00binary")).contains(":1:"));
    assert!(message(Some(b"{\n\"schema_version\": 2,\nnonsense}")).contains(":3:"));
    assert!(message(Some(b"{\"a\": 1}")).contains("no schema_version"));

    let whole = std::fs::read(golden()).unwrap();
    assert!(message(Some(&whole[..whole.len() / 2])).contains("cut short"));
    let text = String::from_utf8(whole).unwrap();
    let other = text.replacen("\"schema_version\": 2", "\"schema_version\": 7", 1);
    assert!(message(Some(other.as_bytes())).contains("schema version 7"));
    let old = include_bytes!("data/results-v1.json");
    assert!(message(Some(old)).contains("schema version 1"));
    let odd = text.replacen("\"seed\"", "\"sead\"", 1);
    let odd = message(Some(odd.as_bytes()));
    assert!(
        odd.contains("sead") && odd.contains("schema version 2"),
        "{odd}"
    );
    let folder_message = report::read_results(folder.path()).unwrap_err().to_string();
    assert!(folder_message.contains("folder"), "{folder_message}");
}

#[test]
fn a_report_shows_every_subject_status_and_chart() {
    let mut results = fixture::results();
    let mut cast = fixture::cast();
    fixture::fail(
        &mut cast,
        "jemalloc",
        Status::Wrong,
        "block 17 overlaps block 12",
    );
    results.summary = fixture::assemble(&[("vim", cast)], 10, 3).summary;
    let html = page(&results);
    for subject in &results.subjects {
        assert!(
            html.contains(&format!("{}<", subject.name)),
            "{} is missing",
            subject.name
        );
    }
    for text in [
        "timed out",
        "crashed",
        "wrong",
        "no answer within 60 s",
        "block 17 overlaps block 12",
        "SIGSEGV",
    ] {
        assert!(html.contains(text), "{text} is missing");
    }
    for text in [
        "in recorded order on one thread",
        "786,454 events",
        "785,668 are requests",
        "thread start",
        "not an allocator operation",
        "libmimalloc.so",
        "The load average was 1.9",
        "glibc 2.36",
        "replay &#x27;vim trace.log&#x27; --blocks 10",
        "Without ours",
        "Time against memory on vim",
        "Memory over vim",
        "Throughput on vim",
        "Fragmentation on vim",
        "Sizes asked for",
        "Lifetimes",
        "Live bytes",
    ] {
        assert!(html.contains(text), "{text} is missing");
    }
}

#[test]
fn a_page_loads_nothing() {
    for results in [fixture::results(), fixture::many()] {
        let html = page(&results);
        for load in [
            "http://", "https://", "<script", "<link", "@import", "url(", "src=", "<iframe",
        ] {
            assert!(!html.contains(load), "{load} in the page");
        }
    }
}

#[test]
fn strings_from_outside_are_text_and_never_markup() {
    let mut results = fixture::many();
    let evil = "</svg></style><script>alert('x')</script>&\u{1b}[31m";
    let rename = |name: &mut String| {
        if name == "vim" || name == "jemalloc" {
            *name = format!("{name}{evil}");
        }
    };
    results.workloads.iter_mut().for_each(|workload| {
        rename(&mut workload.name);
        workload.description = evil.into();
        workload.bias = evil.into();
        let origin = workload.origin.as_mut().expect("a trace has one");
        origin.source = evil.into();
        origin.notes = vec![evil.into()];
    });
    results.subjects.iter_mut().for_each(|subject| {
        rename(&mut subject.name);
        subject.description = evil.into();
    });
    for sample in &mut results.samples {
        rename(&mut sample.workload);
        rename(&mut sample.subject);
        sample.reason = Some(evil.into());
        if let Some(receipt) = &mut sample.receipt {
            receipt.path = evil.into();
        }
    }
    for row in &mut results.summary {
        rename(&mut row.workload);
        rename(&mut row.subject);
        if row.status != Status::Ok {
            row.reason = Some(evil.into());
        }
    }
    results.runs[0].command = vec![evil.into()];
    results.warnings = vec![evil.into()];
    results.runs[0].environment.cpu = Some(evil.into());
    let folder = folder();
    let paths = report::write(&results, folder.path()).unwrap();
    let html = std::fs::read_to_string(&paths.index).unwrap();
    assert!(!html.contains("<script") && html.contains("&lt;script"));
    assert_eq!(
        html.matches("</style>").count(),
        1,
        "only the page's own style sheet ends"
    );
    for chart in &paths.charts {
        let svg = std::fs::read_to_string(chart).unwrap();
        assert!(!svg.contains("<script"), "{}", chart.display());
        roxmltree::Document::parse(&svg)
            .unwrap_or_else(|error| panic!("{}: {error}", chart.display()));
        assert_eq!(chart.parent().unwrap(), folder.path().join("charts"));
    }
    let terminal = report::table::render(&results, 80);
    assert!(!terminal.contains('\u{1b}'));
}

#[test]
fn charts_are_well_formed_in_both_places() {
    // Left under target/ for a look at them in a browser.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, results) in [
        ("whole", whole::whole()),
        ("one", fixture::results()),
        ("many", fixture::many()),
        ("failed", fixture::all_failed()),
    ] {
        let paths = report::write(&results, &folder.join("report").join(name)).unwrap();
        for chart in &paths.charts {
            let svg = std::fs::read_to_string(chart).unwrap();
            let document = roxmltree::Document::parse(&svg).unwrap();
            let title = document
                .descendants()
                .find(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "title")));
            assert!(title.is_some_and(|title| title.text().is_some_and(|text| !text.is_empty())));
            assert!(svg.contains("prefers-color-scheme: dark"));
            assert!(
                !svg.contains("NaN") && !svg.contains("inf\""),
                "{}",
                chart.display()
            );
        }
        let html = std::fs::read_to_string(paths.index).unwrap();
        for inline in html.split("<svg").skip(1) {
            let inline = format!("<svg{}</svg>", inline.split("</svg>").next().unwrap());
            roxmltree::Document::parse(&inline).unwrap();
        }
    }
}

#[test]
fn ids_are_unique_and_every_anchor_leads_somewhere() {
    let html = page(&fixture::many());
    let ids: Vec<&str> = html
        .split(" id=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let unique: std::collections::HashSet<&&str> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    let anchors: Vec<&str> = html
        .split("href=\"#")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(anchors.len(), 45);
    assert!(anchors.iter().all(|anchor| ids.contains(anchor)));
}

#[test]
fn many_workloads_get_an_overview_and_missing_memory_a_sentence() {
    let folder = folder();
    let paths = report::write(&fixture::many(), folder.path()).unwrap();
    let html = std::fs::read_to_string(paths.index).unwrap();
    assert!(html.contains("id=\"overview\"") && html.contains("not distinguishable on"));
    assert_eq!(html.matches("No fragmentation chart: ").count(), 7);
    assert_eq!(html.matches("No chart of time against memory: ").count(), 7);
    assert!(folder.path().join("charts/overview.svg").is_file());
    assert!(folder.path().join("charts/vim-throughput.svg").is_file());
    assert!(!folder.path().join("charts/churn-64-memory.svg").exists());
}

#[test]
fn a_file_in_which_everything_failed_still_makes_a_report() {
    let results = fixture::all_failed();
    let html = page(&results);
    assert!(html.contains("Every subject failed") && html.contains("No subject finished on vim"));
    assert!(html.contains("No throughput chart"));
    assert!(html.contains("malloc came from libc.so.6"));
    assert!(report::table::render(&results, 80).contains("nothing to recommend"));
    let mut nothing = results;
    nothing.workloads.clear();
    nothing.summary.clear();
    nothing.samples.clear();
    assert!(page(&nothing).contains("Nothing was measured"));
    assert!(report::table::render(&nothing, 80).contains("Nothing was measured"));
}

/// The cells of one subject's row in the table of results: the text of each, tags taken out.
fn row_cells(html: &str, name: &str) -> Vec<String> {
    let row = html
        .split("<tr")
        .find(|row| row.contains(&format!("class=\"name\">{name}<")) && row.contains("<td"))
        .unwrap();
    let row = row.split("</tr>").next().unwrap();
    row.split("<td")
        .skip(1)
        .map(|cell| {
            let mut text = String::new();
            for part in cell.split('<') {
                text.push_str(part.split_once('>').map_or("", |(_, text)| text));
                text.push(' ');
            }
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn without_null_the_harness_column_is_left_out_with_a_word() {
    let mut results = fixture::results();
    let html = page(&results);
    assert_eq!(row_cells(&html, "mimalloc").len(), 9);
    results
        .summary
        .iter_mut()
        .for_each(|row| row.harness_share = None);
    let html = page(&results);
    let cells = row_cells(&html, "mimalloc");
    assert_eq!(cells.len(), 8, "{cells:?}");
    assert!(cells[1].starts_with("16.4 ns"), "{cells:?}");
    assert!(cells[4].contains("MiB"), "{cells:?}");
    assert!(
        !html.contains("<th scope=\"col\">Harness share") && html.contains("No harness share:")
    );
    let text = report::table::render(&results, 100);
    assert!(
        text.contains("No floor column") && !text.contains(" floor  "),
        "{text}"
    );
}

#[test]
fn below_six_blocks_no_interval_is_shown_anywhere() {
    let results = fixture::assemble(
        &[("vim", fixture::cast()), ("emacs", fixture::cast())],
        5,
        1,
    );
    let text = report::table::render(&results, 200);
    assert!(text.contains("5 blocks: too few for an interval"), "{text}");
    assert!(
        !text.contains("0.680 [") && !text.contains("95 % interval"),
        "{text}"
    );
    let html = page(&results);
    assert!(!html.contains("16.2 to 16.6") && !html.contains("0.670 to 0.69"));
    assert!(html.contains("Medians of 5 blocks: too few for an interval."));
    assert!(!html.contains("class=\"faster\""));
    assert!(!html.contains("The thin line across a bar"));
    let line = report::table::csv(&results);
    let line = line
        .lines()
        .find(|line| line.starts_with("vim,mimalloc"))
        .unwrap();
    assert!(line.contains(",16.4,,,"), "{line}");
    let six = fixture::assemble(&[("vim", fixture::cast())], 6, 1);
    assert!(page(&six).contains("16.2 to 16.6"));
}

#[test]
fn impossible_numbers_are_told_as_limits() {
    let mut results = fixture::results();
    for row in &mut results.summary {
        match row.subject.as_str() {
            "mimalloc" => {
                row.rss_peak_bytes = Some(0);
                row.rss_peak_ratio_to_baseline = Some(0.0);
                row.fragmentation_at_peak = Some(0.0);
            }
            "jemalloc" => row.fragmentation_at_peak = Some(7e4),
            _ => {}
        }
        if row.subject == "jemalloc" {
            row.harness_share = Some(1.3);
        }
    }
    let html = page(&results);
    let mimalloc = row_cells(&html, "mimalloc");
    assert_eq!(mimalloc[5..7], ["&lt; 1 page", "–"], "{mimalloc:?}");
    let jemalloc = row_cells(&html, "jemalloc");
    assert_eq!(jemalloc[4], "all of it");
    assert!(jemalloc[6].starts_with("&gt; 1000"), "{jemalloc:?}");
    assert!(html.contains("took no longer than “null” did"));
    let text = report::table::render(&results, 120);
    for words in ["< 1 page", "> 1000", "all of it"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn notes_beside_the_numbers_say_what_they_mean() {
    let mut results = fixture::results();
    results.summary[0].reason = Some("SIGSEGV in operation 5 of the trace, malloc(80),.".into());
    results.workloads[0]
        .profile
        .as_mut()
        .expect("a trace has one")
        .counts
        .failed_allocation = 3;
    let html = page(&results);
    for text in [
        "no: it had failed while recording",
        "on average",
        "give memory back after a delay",
        "what the harness itself costs",
        "page faults included",
        "Transparent huge pages are set to “madvise”",
        "the rest of huge pages",
        "malloc(80)</span>",
    ] {
        assert!(html.contains(text), "{text} is missing");
    }
    results.runs[0].environment.transparent_huge_pages = Some("never".into());
    assert!(!page(&results).contains("Transparent huge pages are set to"));
}

#[test]
fn terminal_table_shows_numbers_and_whole_reasons() {
    let text = report::table::render(&fixture::results(), 80);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    let line = text
        .lines()
        .find(|line| line.starts_with("mimalloc"))
        .unwrap();
    for value in ["16.4 ns", "0.680 [0.670, 0.691]", "21 %", "1.310", "MiB"] {
        assert!(line.contains(value), "{value} is not in {line}");
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("crashed: signal 11 (SIGSEGV) in operation 1,000 of the verify pass"),
        "{text}"
    );
    assert!(
        words.contains("warning: The load average was 1.9 on 2 processors"),
        "{text}"
    );
}

#[test]
fn markdown_and_csv_have_a_line_per_row() {
    let results = fixture::many();
    let csv = report::table::csv(&results);
    assert_eq!(csv.lines().count(), 1 + results.summary.len());
    let columns = csv.lines().next().unwrap().split(',').count();
    let plain = csv
        .lines()
        .find(|line| line.contains(",mimalloc,"))
        .unwrap();
    assert_eq!(plain.split(',').count(), columns);
    let markdown = report::table::markdown(&results);
    assert_eq!(
        markdown
            .lines()
            .filter(|line| line.starts_with("| mimalloc |"))
            .count(),
        15
    );
    assert!(
        markdown
            .lines()
            .filter(|line| line.starts_with('|'))
            .all(|line| line.ends_with('|'))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_line_of_the_terminal_table_is_too_long(
        name in "\\PC{0,60}", reason in "(\\PC{0,30} ?){0,8}", width in 40usize..=80,
        values in prop::collection::vec(prop_oneof![0.0..1e3, 0.0..1e300, Just(f64::NAN), Just(f64::INFINITY)], 6),
    ) {
        let mut results = fixture::results();
        for (n, row) in results.summary.iter_mut().enumerate() {
            if n % 2 == 0 { row.subject = format!("{name}{n}"); }
            if row.status != Status::Ok { row.reason = Some(reason.clone()); }
            if let Some(ratio) = &mut row.ratio_to_baseline {
                (ratio.median, ratio.low, ratio.high) = (values[0], values[1], values[2]);
            }
            if let Some(time) = &mut row.ns_per_operation { time.median = values[3]; }
            row.fragmentation_at_peak = Some(values[4]);
            row.harness_share = Some(values[5]);
            row.rss_peak_bytes = Some(values[5] as u64);
        }
        results.workloads[0].name = "vim".into();
        let text = report::table::render(&results, width);
        for line in text.lines() {
            prop_assert!(line.chars().count() <= width, "{} columns: {line}", line.chars().count());
        }
        // The same values must not stop a page from being drawn.
        prop_assert!(page(&results).ends_with("</html>"));
    }
}
