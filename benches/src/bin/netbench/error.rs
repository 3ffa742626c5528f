//! What can go wrong while building namespaces or measuring in them.

use std::fmt;
use std::io;
use std::time::Duration;

/// Shorthand for results of this program.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure that ends one measurement or the whole run.
#[derive(Debug)]
pub(crate) enum Error {
    /// A program that netbench drives is not installed.
    MissingTool {
        /// Name of the program.
        tool: &'static str,
        /// Debian package that holds it.
        package: &'static str,
    },
    /// The `pontoon` binary was not found.
    MissingPontoon {
        /// Where it was looked for.
        path: String,
    },
    /// The peers' packages could not be fetched.
    Unfetched {
        /// Where they should be.
        cache: String,
        /// Why they are not.
        reason: String,
    },
    /// A program ended with an error.
    Failed {
        /// Its command line.
        command: String,
        /// What it wrote, or its exit status when it wrote nothing.
        output: String,
    },
    /// A program or a peer did not finish in time.
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
    },
    /// A program's output did not hold what it should.
    Unreadable {
        /// Whose output.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A system call failed.
    System {
        /// What was being done, with the advice that fits.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTool { tool, package } => {
                write!(
                    f,
                    "{tool} is not installed: try `apt-get install {package}`"
                )
            }
            Self::MissingPontoon { path } => write!(
                f,
                "no pontoon at {path}: build it with `cargo build --release -p pontoon-cli`, name \
                 it with --pontoon PATH, or measure only the kernel with \
                 --systems kernel-bridge,kernel-nat"
            ),
            Self::Unfetched { cache, reason } => write!(
                f,
                "the peers' packages are not in {cache}: {reason}; where this user cannot fetch \
                 them, run netbench as root once with --cache DIR and name the same directory"
            ),
            Self::Failed { command, output } => write!(f, "`{command}` failed: {output}"),
            Self::TimedOut { what, after } => {
                write!(f, "{what}: nothing within {:.1} s", after.as_secs_f64())
            }
            Self::Unreadable { what, reason } => write!(f, "output of {what}: {reason}"),
            Self::System { action, source } => write!(f, "{action}: {source}"),
        }
    }
}

impl std::error::Error for Error {}

/// Attaches what was being done to a failed system call.
pub(crate) trait Context<T> {
    /// Turns the error into [`Error::System`] with this action.
    fn context(self, action: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, action: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::System {
            action: action.into(),
            source: source.into(),
        })
    }
}
