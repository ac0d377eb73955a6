//! The one error type of the suite. Its `Display` is the single line a user reads: what is wrong,
//! where, and what to do.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// What went wrong, told to the user in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or a definition asks for something that does not exist: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A line of a text file (trace, definition) does not follow its grammar.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file as the user named it.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// What was found and what was expected.
        message: String,
    },
    /// A file as a whole cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What was tried: "read", "create", "write".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A measurement as a whole could not be made.
    #[error("{0}")]
    Failed(String),
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// The same, when something was kept: where, and how to go on.
    #[error("{0}")]
    Stopped(String),
}

/// Result with the suite's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A wrong request by the user.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A file that is unusable as a whole.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::File {
            path: path.as_ref().to_owned(),
            message: message.into(),
        }
    }

    /// A line that does not follow its grammar; `line` counts from 1.
    pub fn line(path: impl AsRef<Path>, line: u64, message: impl Into<String>) -> Self {
        Self::Line {
            path: path.as_ref().to_owned(),
            line,
            message: message.into(),
        }
    }

    /// A refusal by the operating system.
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Self::Io {
            path: path.as_ref().to_owned(),
            action,
            source,
        }
    }

    /// Exit code of a process that ends with this error: 2 for usage, 130 after an interrupt, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Interrupted | Self::Stopped(_) => 130,
            _ => 1,
        }
    }
}
