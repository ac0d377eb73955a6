//! How a child ended, as a status and a sentence.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::answer::{
    Answer, STATE_DONE, STATE_REFUSED, STATE_REPLAYING, STATE_STARTED, STATE_WRONG,
};
use super::process::{self, Ending};
use super::receipt::{foreign_object, load_failure};
use super::request::{Request, Work};
use super::session::{Child, Outcome};
use crate::measure::results::{Pass, Receipt, Status};
use crate::replay::serial::Fault;

/// How a child ended, and whether the right object served it; not what it measured.
pub(super) fn judge(request: &Request<'_>, child: &mut Child, receipt: Option<Receipt>) -> Outcome {
    let (finished, answer, said) = (child.finished, child.answer.get(), &mut child.said);
    let mut outcome = Outcome {
        status: Status::Ok,
        reason: None,
        operations: answer.operations,
        receipt,
        speed: None,
        total_ns: answer.total_ns,
        memory: None,
        latency: None,
        finished,
    };
    let mut fail = |status, reason: String| {
        outcome.status = status;
        outcome.reason = Some(reason);
    };
    match (finished.ending, answer.state) {
        (Ending::TimedOut, _) => {
            let seconds = request.timeout.as_secs_f64();
            let place = place_of_killing(request, answer);
            fail(Status::TimedOut, format!("killed after {seconds} s{place}"));
        }
        (
            Ending::OutOfMemory {
                resident_bytes,
                limit_bytes,
            },
            _,
        ) => {
            let (used, limit) = (resident_bytes.div_ceil(1 << 20), limit_bytes >> 20);
            let place = place_of_killing(request, answer);
            fail(
                Status::OutOfMemory,
                format!("killed at {used} MiB{place}; the limit is {limit} MiB (--memory-limit)"),
            );
        }
        (Ending::Exited(0), STATE_DONE) => {}
        (Ending::Exited(0), STATE_WRONG) => fail(Status::Wrong, wrong_text(request, answer)),
        (Ending::Exited(0), STATE_REFUSED) => fail(Status::Refused, answer.refusal()),
        (ending, state) => match load_failure(said).filter(|_| state == STATE_STARTED) {
            Some(message) => fail(Status::Refused, message),
            None => fail(Status::Crashed, crash_text(request, answer, ending, said)),
        },
    }
    if outcome.status == Status::Ok {
        let others = if finished.started_processes > 0 {
            Some("it started processes of its own, whose time and memory are not measured")
        } else if finished.forgets_processes {
            Some(
                "it ignores the end of its own processes (SIGCHLD): whether it started some is not \
                 known, and their time and memory are not measured",
            )
        } else {
            None
        };
        if let Some(reason) =
            foreign_object(request.subject, answer, Some(said)).or(others.map(str::to_owned))
        {
            outcome.status = Status::Refused;
            outcome.reason = Some(reason);
        }
    }
    outcome
}

fn wrong_text(request: &Request<'_>, answer: &Answer) -> String {
    let what = Fault::from_number(answer.fault).map_or("did wrong", Fault::text);
    format!("{} {what}", operation_text(request, answer.operation))
}

fn place_of_killing(request: &Request<'_>, answer: &Answer) -> String {
    match (answer.state, request.pass) {
        (STATE_REPLAYING, Pass::Verify) => place_text(request, answer.operation),
        (STATE_STARTED, _) => " before the replay began".to_owned(),
        _ => String::new(),
    }
}

fn crash_text(request: &Request<'_>, answer: &Answer, ending: Ending, said: &mut File) -> String {
    let how = match ending {
        Ending::Signalled(signal) => process::signal_name(signal),
        Ending::Exited(code) => format!("ended early with exit code {code}"),
        Ending::TimedOut | Ending::OutOfMemory { .. } | Ending::Interrupted | Ending::Stopped => {
            unreachable!("handled by the caller")
        }
    };
    let place = if answer.state == STATE_REPLAYING && request.pass == Pass::Verify {
        place_text(request, answer.operation)
    } else if answer.state == STATE_REPLAYING {
        " during the replay".to_owned()
    } else {
        " before the replay began".to_owned()
    };
    let message = last_line(said).map_or(String::new(), |line| format!("; it said: {line}"));
    format!("{how}{place}{message}")
}

/// Where a replay was when it ended by itself: on several threads only the operation is known that
/// was begun last.
fn place_text(request: &Request<'_>, operation: u64) -> String {
    let text = operation_text(request, operation);
    match &request.work {
        Work::Threaded { program, .. } if program.record().threads_alive_peak > 1 => {
            format!(" at or shortly before {text}, the last that any thread had begun")
        }
        _ => format!(" in {text}"),
    }
}

/// "operation 1000 of the trace, malloc(64)", or how far a kernel was.
fn operation_text(request: &Request<'_>, operation: u64) -> String {
    match &request.work {
        Work::Program { program, .. } => {
            program.describe(usize::try_from(operation).unwrap_or(usize::MAX))
        }
        Work::Threaded { program, .. } => {
            program.describe(usize::try_from(operation).unwrap_or(usize::MAX))
        }
        Work::Kernel(_) => format!("operation {} of the kernel", operation + 1),
    }
}

/// The end of what the child wrote to standard error, on one line and not longer than needed.
fn last_line(said: &mut File) -> Option<String> {
    const TAIL_BYTES: u64 = 4096;
    let length = said.seek(SeekFrom::End(0)).ok()?;
    said.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    said.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())?
        .trim();
    let printable: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(printable)
}
