//! What a child is asked to do, and how it travels on its command line.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::measure::results::{Order, Pass, Touch};
use crate::replay::kernels::Kernel;
use crate::replay::program::Program;
use crate::replay::threaded::ThreadedProgram;
use crate::subject::Subject;
use crate::subject::version::VersionSource;

/// The hidden first argument that makes an executable a child.
pub const FIRST_ARGUMENT: &str = "__sample";

/// What to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A program, and the file it was saved to for children to map.
    Program {
        /// Where it was saved.
        path: PathBuf,
        /// The program, to name operations in messages.
        program: Arc<Program>,
    },
    /// A program for several threads, likewise.
    Threaded {
        /// Where it was saved.
        path: PathBuf,
        /// The program, to name operations in messages.
        program: Arc<ThreadedProgram>,
    },
    /// A kernel with threads of its own.
    Kernel(Kernel),
}

/// One sample to take.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What to perform.
    pub work: Work,
    /// Against which allocator.
    pub subject: &'a Subject,
    /// What for.
    pub pass: Pass,
    /// What to write into new blocks.
    pub touch: Touch,
    /// In which order the operations of several threads are replayed.
    pub order: Order,
    /// How often to replay in a speed pass; the first time is on a fresh heap.
    pub passes: u32,
    /// When to kill the child and all it started.
    pub timeout: Duration,
    /// When to kill them, too: memory that they have resident together.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes of an environment variable that moves the child's stack: against layout bias.
    pub environment_bytes: usize,
    /// Whether the memory pass waits a second to see what is retained then.
    pub settle: bool,
}

/// The child's side of [`Work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Path of a saved program: for several threads unless the order is [`Order::Serial`].
    Program(OsString),
    /// A kernel, which travels in its text form.
    Kernel(Kernel),
    /// Nothing but to tell the allocator's version.
    Version(VersionSource),
}

/// The child's command line, after the hidden first argument. Paths need not be text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildArguments {
    /// What for.
    pub pass: Pass,
    /// What to write into new blocks.
    pub touch: Touch,
    /// In which order the operations of several threads are replayed.
    pub order: Order,
    /// How often to replay in a speed pass.
    pub passes: u32,
    /// A linked subject's name, or another word for what the dynamic linker finds.
    pub token: String,
    /// The answer file.
    pub answer: OsString,
    /// What to perform.
    pub task: Task,
}

impl ChildArguments {
    /// As words of a command line.
    pub fn to_words(&self) -> [OsString; 8] {
        let (kind, task) = match &self.task {
            Task::Program(path) => ("program", path.clone()),
            Task::Kernel(kernel) => ("kernel", kernel.to_string().into()),
            Task::Version(source) => ("version", source.to_string().into()),
        };
        [
            self.pass.name().into(),
            self.touch.name().into(),
            self.order.name().into(),
            self.passes.to_string().into(),
            self.token.clone().into(),
            self.answer.clone(),
            kind.into(),
            task,
        ]
    }

    /// The inverse of [`ChildArguments::to_words`].
    pub fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let pass = Pass::from_name(words.next()?.to_str()?)?;
        let touch = Touch::from_name(words.next()?.to_str()?)?;
        let order = Order::from_name(words.next()?.to_str()?)?;
        let passes = words.next()?.to_str()?.parse().ok()?;
        let token = words.next()?.into_string().ok()?;
        let answer = words.next()?;
        let task = match words.next()?.to_str()? {
            "program" => Task::Program(words.next()?),
            "kernel" => Task::Kernel(words.next()?.to_str()?.parse().ok()?),
            "version" => Task::Version(words.next()?.to_str()?.parse().ok()?),
            _ => return None,
        };
        words.next().is_none().then_some(Self {
            pass,
            touch,
            order,
            passes,
            token,
            answer,
            task,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_command_line() {
        let kernel = Kernel::ProducerConsumer {
            blocks: 10,
            size: 64,
            ring: 4,
        };
        let version = VersionSource::Mallctl("version".to_owned());
        for task in [
            Task::Program("another file".into()),
            Task::Kernel(kernel),
            Task::Version(version),
        ] {
            survives(task);
        }
    }

    fn survives(task: Task) {
        let arguments = ChildArguments {
            pass: Pass::Memory,
            touch: Touch::All,
            order: Order::Strict,
            passes: 3,
            token: "bump".to_owned(),
            answer: "a file".into(),
            task,
        };
        let words = arguments.to_words();
        assert_eq!(
            ChildArguments::parse(words.iter().cloned()),
            Some(arguments)
        );
        assert_eq!(ChildArguments::parse(words.into_iter().take(7)), None);
    }
}
