//! Running programs: found on the path, given a time limit, their complaints kept.

use crate::error::{Context, Error, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long commands that only configure something may take.
const SETUP_LIMIT: Duration = Duration::from_secs(30);

/// How often a long-running child is looked at. Rare enough not to disturb what is measured.
const SLOWEST_POLL: Duration = Duration::from_millis(20);

/// How often a child is looked at that has only just started.
const FASTEST_POLL: Duration = Duration::from_micros(100);

/// Where system tools are on distributions whose users do not have them on their path.
const SYSTEM_DIRS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// Finds a program.
///
/// # Errors
/// [`Error::MissingTool`] with the package that holds it.
pub(crate) fn locate(tool: &'static str, package: &'static str) -> Result<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&format!("{path}:{SYSTEM_DIRS}"))
        .map(|dir| dir.join(tool))
        .find(|candidate| candidate.is_file())
        .ok_or(Error::MissingTool { tool, package })
}

/// Runs a program to its end and answers what it wrote to its standard output.
///
/// # Errors
/// [`Error::Failed`] with what it wrote, or [`Error::TimedOut`].
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let child = spawn(command)?;
    succeed(command, finish(command, child, SETUP_LIMIT)?)
}

/// Starts a program with its output captured and no input.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(format!("starting `{}`", line(command)))
}

/// Waits for a child, and kills it when `limit` is over. Its output ends with it, even when a
/// daemon that it started keeps the pipes open.
///
/// # Errors
/// [`Error::TimedOut`].
pub(crate) fn finish(command: &Command, mut child: Child, limit: Duration) -> Result<Output> {
    let started = Instant::now();
    let mut stdout = Pipe::new(child.stdout.take())?;
    let mut stderr = Pipe::new(child.stderr.take())?;
    loop {
        let ended = child.try_wait().context("waiting for a program")?;
        stdout.drain();
        stderr.drain();
        if let Some(status) = ended {
            return Ok(Output {
                status,
                stdout: stdout.bytes,
                stderr: stderr.bytes,
            });
        }
        let elapsed = started.elapsed();
        if elapsed > limit {
            let _ended_meanwhile = child.kill();
            let _status = child.wait();
            return Err(Error::TimedOut {
                what: line(command),
                after: limit,
            });
        }
        std::thread::sleep((elapsed / 16).clamp(FASTEST_POLL, SLOWEST_POLL));
    }
}

/// One end of a child's output and what came out so far.
struct Pipe<R> {
    end: Option<R>,
    bytes: Vec<u8>,
}

impl<R: Read + AsFd> Pipe<R> {
    fn new(end: Option<R>) -> Result<Self> {
        if let Some(end) = &end {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("preparing a pipe")?;
        }
        Ok(Self {
            end,
            bytes: Vec::new(),
        })
    }

    /// Takes what is there. The error that ends reading says that there is no more for now.
    fn drain(&mut self) {
        if let Some(end) = &mut self.end {
            let _no_more_for_now = end.read_to_end(&mut self.bytes);
        }
    }
}

/// The standard output of a program that ended well.
///
/// # Errors
/// [`Error::Failed`] otherwise.
pub(crate) fn succeed(command: &Command, output: Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let complaints = [
        text(&output.stderr),
        text(&output.stdout),
        output.status.to_string(),
    ];
    let complaint = complaints
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    Err(Error::Failed {
        command: line(command),
        output: complaint,
    })
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tool_names_its_package() {
        let error = locate("no-such-tool", "no-such-package")
            .unwrap_err()
            .to_string();
        assert!(error.contains("apt-get install no-such-package"), "{error}");
    }

    #[test]
    fn complaint_of_a_failed_program_is_kept() {
        let error = run(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh -c echo why >&2; exit 3` failed: why"
        );
    }

    #[test]
    fn long_output_is_kept_whole() {
        let output = run(Command::new("seq").args(["1", "50000"])).unwrap();
        assert!(output.starts_with("1\n2\n") && output.ends_with("\n50000"));
        assert_eq!(output.lines().count(), 50_000);
    }

    #[test]
    fn daemon_that_keeps_the_pipes_holds_nobody_up() {
        let start = Instant::now();
        let output = run(Command::new("sh").args(["-c", "sleep 5 & echo started"])).unwrap();
        assert_eq!(output, "started");
        assert!(start.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn program_that_hangs_is_killed() {
        let mut command = Command::new("sleep");
        let child = spawn(command.arg("60")).unwrap();
        let limit = Duration::from_millis(50);
        assert!(matches!(
            finish(&command, child, limit),
            Err(Error::TimedOut { .. })
        ));
    }
}
