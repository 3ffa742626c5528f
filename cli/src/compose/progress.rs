//! What was done, line by line as compose says it.

use serde::Serialize;

/// A line that was said.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    kind: &'static str,
    name: String,
    action: &'static str,
}

/// The lines so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    lines: Vec<Line>,
}

impl Progress {
    /// Something became of a network.
    pub(super) fn network(&mut self, name: &str, action: &'static str) {
        self.say("network", "Network", name, action);
    }

    /// Something became of a container.
    pub(super) fn container(&mut self, name: &str, action: &'static str) {
        self.say("container", "Container", name, action);
    }

    fn say(&mut self, kind: &'static str, shown: &str, name: &str, action: &'static str) {
        eprintln!(" {shown} {name}  {action}");
        self.lines.push(Line {
            kind,
            name: name.to_owned(),
            action,
        });
    }

    /// All lines.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// What there is now that was not before, in words.
    pub(super) fn made(&self) -> String {
        let made = self.lines.iter().filter(|line| MADE.contains(&line.action));
        let made: Vec<_> = made
            .map(|line| format!("{} {}", line.kind, line.name))
            .collect();
        match made.is_empty() {
            true => "nothing".to_owned(),
            false => made.join(", "),
        }
    }
}

/// Said of a network that was made.
pub(super) const CREATED: &str = "Created";
/// Said of a container that was started.
pub(super) const STARTED: &str = "Started";
const MADE: [&str; 2] = [CREATED, STARTED];
