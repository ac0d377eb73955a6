//! What the figures say of why predictions miss, in sentences.

#![forbid(unsafe_code)]

use super::{Policy, Prediction, ProgramFidelity};
use crate::measure::results::Touch;

/// A prediction that is off by less than this share is not explained.
const MISS: f64 = 0.02;
/// The same of peak RSS.
const RSS_MISS: f64 = 0.10;
/// Below this share of the program's time inside the allocator, there is little to predict.
const SMALL_SHARE: f64 = 0.05;
/// CPU time of a page fault, in nanoseconds, as it is on machines of today: into the kernel and back,
/// and a page to be cleared.
const FAULT_NS: f64 = 1000.0;

/// Explains each program of each policy; of another policy what it predicts is told beside.
pub(super) fn policies(policies: &mut [Policy]) {
    for at in 0..policies.len() {
        for program in 0..policies[at].programs.len() {
            let one = &policies[at].programs[program];
            let others: Vec<(Touch, &ProgramFidelity)> = policies
                .iter()
                .enumerate()
                .filter(|(number, _)| *number != at)
                .filter_map(|(_, policy)| {
                    let mut programs = policy.programs.iter();
                    Some((policy.touch, programs.find(|other| other.name == one.name)?))
                })
                .collect();
            let sentences = explain(one, &others);
            policies[at].programs[program].explanations = sentences;
        }
    }
}

pub(super) fn explain(
    found: &ProgramFidelity,
    others: &[(Touch, &ProgramFidelity)],
) -> Vec<String> {
    let mut sentences = about_all(found);
    let noise = found.noise.unwrap_or(0.0);
    let mut within = Vec::new();
    for one in &found.subjects {
        let miss = one.real_time.median - one.predicted_time.median;
        if miss.abs() <= MISS.max(noise) {
            continue;
        }
        if one.real_time.low <= one.predicted_time.high
            && one.predicted_time.low <= one.real_time.high
        {
            within.push(one.subject.as_str());
            continue;
        }
        sentences.push(about_time(found, one, miss, others));
    }
    if !within.is_empty() {
        sentences.push(format!(
            "{}: what was predicted and what was seen differ by less than their intervals; more blocks \
             would tell.",
            within.join(", ")
        ));
    }
    sentences.extend(
        found
            .subjects
            .iter()
            .filter_map(|one| about_rss(found, one)),
    );
    for one in &found.unpredicted {
        sentences.push(format!("{} is not compared: {}.", one.subject, one.reason));
    }
    sentences
}

fn about_all(found: &ProgramFidelity) -> Vec<String> {
    let share = found.replay_ns / found.program_ns;
    let mut sentences = Vec::new();
    if share < SMALL_SHARE {
        sentences.push(format!(
            "Of its time {:.1} % is spent in the allocator by the replay under the baseline: \
             allocators can hardly differ by their own work, only by what they do to the rest.",
            100.0 * share
        ));
    }
    if share > 1.0 {
        sentences.push(format!(
            "The replay alone takes {share:.2} times as long as the program: it touches memory that the \
             program does not, or finds it less often in the cache."
        ));
    }
    let pairs = found.agreement;
    if pairs.told_apart == 0 && pairs.pairs > 0 {
        sentences.push(format!(
            "The program's own times tell none of the {} pairs of allocators apart: the rank correlation \
             compares with noise.",
            pairs.pairs
        ));
    } else if pairs.told_apart < pairs.pairs {
        sentences.push(format!(
            "Of {} pairs of allocators the program's own times tell {} apart: the rank correlation \
             counts the order of the others too, which is noise. The prediction orders {} of the {} \
             right.",
            pairs.pairs, pairs.told_apart, pairs.ordered_right, pairs.told_apart
        ));
    }
    sentences
}

fn about_time(
    found: &ProgramFidelity,
    one: &Prediction,
    miss: f64,
    others: &[(Touch, &ProgramFidelity)],
) -> String {
    let ms = |ns: f64| format!("{:+.0} ms", ns / 1e6);
    let left_ns = miss * found.program_ns;
    let [own, replayed] = one.page_faults;
    let mut text = format!(
        "{}: {:.0} ms {} than predicted. Against the baseline, the program takes {} in user mode and \
         {} in the kernel, with {own:+.0} page faults; predicted are {} by the replay with \
         {replayed:+.0} page faults, and {} by the start of {} with {:+.0}. ",
        one.subject,
        left_ns.abs() / 1e6,
        if miss > 0.0 { "more" } else { "less" },
        ms(one.user_ns),
        ms(one.system_ns),
        ms(one.replay_ns),
        ms(one.start_up_ns),
        match found.started {
            1 => "one process".to_owned(),
            several => format!("{several} processes"),
        },
        one.start_up_faults,
    );
    text += cause(one, left_ns);
    let elsewhere: Vec<String> = others
        .iter()
        .filter_map(|(touch, other)| {
            let mut subjects = other.subjects.iter();
            let same = subjects.find(|other| other.subject == one.subject)?;
            let off = same.predicted_time.median / same.real_time.median - 1.0;
            Some(format!("{} {:+.1} %", touch.name(), 100.0 * off))
        })
        .collect();
    if !elsewhere.is_empty() {
        let own = one.predicted_time.median / one.real_time.median - 1.0;
        text += &format!(
            " The prediction is off by {:+.1} %; with the touch policies {}.",
            100.0 * own,
            elsewhere.join(", ")
        );
    }
    text
}

/// The likeliest cause of what is left, from where the time went.
fn cause(one: &Prediction, left_ns: f64) -> &'static str {
    let [own, replayed] = one.page_faults;
    let left_faults = own - replayed - one.start_up_faults;
    let real_ns = one.user_ns + one.system_ns;
    let is_kernel = one.system_ns * real_ns > 0.0 && one.system_ns.abs() > one.user_ns.abs();
    if left_faults * FAULT_NS / left_ns > 0.25 {
        "Likely: what is left goes with page faults that the replay does not have in that number: the program \
         touches or gives back other memory than the replay does."
    } else if is_kernel {
        "Likely: what is left is in the kernel, but not in page faults: memory mapped and given back, or more of \
         it to be torn down when a process ends."
    } else if left_ns * (one.replay_ns + one.start_up_ns) > 0.0 {
        "The difference is larger in the program than in the replay. Likely, between two calls the program \
         displaces from the caches what the allocator reads and writes, so that each call costs more; \
         and it uses its blocks itself, which lie otherwise."
    } else {
        "The replay overstates the difference. Likely, it does nothing but call the allocator, so that blocks \
         which the program has in the caches by its own work are fetched by the replay's calls; or the \
         program finds its blocks better or worse in the caches, as they lie otherwise."
    }
}

fn about_rss(found: &ProgramFidelity, one: &Prediction) -> Option<String> {
    let error = one.rss_error()?;
    if error <= RSS_MISS {
        return None;
    }
    let (real, predicted) = (one.real_rss?, one.predicted_rss?);
    let cause = if real < predicted {
        "the program leaves memory of its blocks untouched that the replay writes to, or shares it with \
         another process"
    } else {
        "the allocator's own code and tables in the process, which the replay's memory does not hold, or \
         threads and times of release that the replay does not have"
    };
    let others = match found.processes {
        0 | 1 => "",
        _ => " The largest process is compared with the largest trace.",
    };
    Some(format!(
        "{}: peak RSS is {real:.2} times the baseline's, predicted {predicted:.2}: {cause}.{others}",
        one.subject
    ))
}
