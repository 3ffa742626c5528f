//! What containers say, line by line under their names, until all have ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use pontoon_engine::control::api::{ContainerView, Request};
use pontoon_engine::io::control::container_files;
use pontoon_engine::io::control::transport::runtime_directory;
use pontoon_engine::io::process::Process;

use super::carry_out::{Logs, PATIENCE, container};
use super::interrupt::Interrupts;
use super::lines::Lines;
use crate::client::{Client, Failure};

/// How much of a log is read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// A container that is listened to.
struct Voice {
    name: String,
    full_name: String,
    log: File,
    /// Its monitor, while it runs.
    monitor: Option<Process>,
    lines: Lines,
}

/// Prints what containers say until they have ended. An interrupt stops them, another one kills them.
/// Returns the exit status.
pub(super) fn follow(
    names: &[String],
    project: &str,
    logs: Logs,
    interrupts: &Interrupts,
) -> Result<u8, Failure> {
    let written = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let mut voices = voices(names, project, logs)?;
    for voice in &voices {
        let path = format!("/proc/self/fd/{}", voice.log.as_raw_fd());
        written.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY)?;
    }
    let mut patience = [PATIENCE, 0].into_iter();
    let mut status = 0;
    loop {
        let mut left = Vec::new();
        for mut voice in voices {
            let ended = voice.has_ended();
            voice.print()?;
            if ended {
                voice.say_the_end()?;
            } else {
                left.push(voice);
            }
        }
        voices = left;
        if voices.is_empty() {
            return Ok(status);
        }
        wait(&voices, &written, interrupts)?;
        if let Some(signal) = interrupts.came()? {
            status = signal;
            if let Some(seconds) = patience.next() {
                stop(names.iter().rev().cloned().collect(), seconds);
            }
        }
    }
}

fn voices(names: &[String], project: &str, mut logs: Logs) -> Result<Vec<Voice>, Failure> {
    let own = format!("{project}-");
    let short = |name: &String| name.strip_prefix(&own).unwrap_or(name).to_owned();
    let width = names.iter().map(|name| short(name).len()).max();
    let mut voices = Vec::new();
    for name in names {
        let view = container(name)?;
        let opened = logs.iter().position(|(other, _)| other == name);
        let log = match opened {
            Some(nth) => Some(logs.swap_remove(nth).1),
            None => log_of(&view),
        };
        // One that had ended before has no log any more.
        if let (Some(log), Some(pid)) = (log, view.monitor) {
            voices.push(Voice {
                name: short(name),
                full_name: name.clone(),
                log,
                monitor: Process::open(i32::try_from(pid).unwrap_or(0)).ok(),
                lines: Lines::after(&format!("{:<1$}  | ", short(name), width.unwrap_or(0))),
            });
        }
    }
    Ok(voices)
}

/// The log of a container that was there before.
fn log_of(container: &ContainerView) -> Option<File> {
    let files = container_files(&runtime_directory(), container.monitor?);
    File::open(files.join("log")).ok()
}

impl Voice {
    /// Whether nothing more will be said once the log has been read. A monitor ends after it has reported.
    fn has_ended(&self) -> bool {
        let monitor = self.monitor.as_ref();
        monitor.is_none_or(|monitor| monitor.has_ended(Duration::ZERO))
    }

    /// Prints what is new.
    fn print(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.log.read(&mut chunk)? {
                0 => return out.flush(),
                length => self.lines.take(&chunk[..length], &mut out)?,
            }
        }
    }

    fn say_the_end(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.lines.finish(&mut out)?;
        // One that was removed meanwhile has no status any more.
        let status = container(&self.full_name)
            .ok()
            .and_then(|view| view.exit_status);
        match status {
            Some(status) => writeln!(out, "{} exited with code {status}", self.name),
            None => writeln!(out, "{} ended", self.name),
        }
    }
}

/// Waits until somebody says something, ends, or is interrupted.
fn wait(voices: &[Voice], written: &Inotify, interrupts: &Interrupts) -> Result<(), Failure> {
    let monitors = voices.iter().filter_map(|voice| voice.monitor.as_ref());
    let fds = [written.as_fd(), interrupts.as_fd()].into_iter();
    let fds = fds.chain(monitors.map(AsFd::as_fd));
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(error) => return Err(Failure::own("wait for containers", error)),
    }
    match written.read_events() {
        Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
        Err(error) => Err(Failure::own("watch logs", error)),
    }
}

/// Stops containers one by one, beside what they still say.
fn stop(names: Vec<String>, seconds: u64) {
    let how = match seconds {
        0 => "killing containers",
        _ => "stopping containers; Ctrl-C again kills them",
    };
    eprintln!("pontoon: {how}");
    thread::spawn(move || {
        for name in names {
            let request = Request::Stop { name, seconds };
            // It may have ended, or been removed, meanwhile.
            let _ = Client::open().and_then(|client| client.ask(&request));
        }
    });
}
