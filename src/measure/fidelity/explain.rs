//! What the figures say of why predictions miss, in sentences.

#![forbid(unsafe_code)]

use super::{Policy, Prediction, ProgramFidelity};

/// A prediction that is off by less than this share is not explained.
const MISS: f64 = 0.02;
/// The same of peak RSS.
const RSS_MISS: f64 = 0.10;
/// Below this share of the program's time inside the allocator, there is little to predict.
const SMALL_SHARE: f64 = 0.05;
/// CPU time of a page fault, in nanoseconds, as it is on machines of today: into the kernel and back,
/// and a page to be cleared.
const FAULT_NS: f64 = 1000.0;

/// Explains each program of each policy.
pub(super) fn policies(policies: &mut [Policy]) {
    for program in policies.iter_mut().flat_map(|policy| &mut policy.programs) {
        program.explanations = explain(program);
    }
}

pub(super) fn explain(found: &ProgramFidelity) -> Vec<String> {
    let mut sentences = about_all(found);
    let noise = found.noise.unwrap_or(0.0);
    let (mut within, mut missed) = (Vec::new(), Vec::new());
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
        missed.push((one, miss * found.program_ns));
    }
    sentences.extend(about_times(&missed));
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

/// Of subjects and the time that each takes above what was predicted: those of one cause in one sentence.
fn about_times(missed: &[(&Prediction, f64)]) -> Vec<String> {
    let mut groups: Vec<(&'static str, Vec<String>)> = Vec::new();
    for &(one, left_ns) in missed {
        let cause = cause(one, left_ns);
        let direction = if left_ns > 0.0 { "more" } else { "less" };
        let told = format!("{} {:.0} ms {direction}", one.subject, left_ns.abs() / 1e6);
        match groups.iter_mut().find(|group| group.0 == cause) {
            Some(group) => group.1.push(told),
            None => groups.push((cause, vec![told])),
        }
    }
    groups
        .into_iter()
        .map(|(cause, told)| format!("Than predicted: {}. {cause}", told.join(", ")))
        .collect()
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
