//! The files in which an engine's state outlives it.
//!
//! `state.json` is replaced as a whole: written beside, brought to the disk, renamed. What changes after that is
//! one line each of `state.log`, so that a change among many containers costs what one among few does; when the
//! log has grown as long as the whole, there is a new whole. A line says which whole it belongs to, and one that
//! was not ended was never answered. Files that cannot be understood are set aside, so that nobody acts on half of
//! them, and somebody can look at them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::control::state::{Change, Difference, Keyed, SCHEMA, Snapshot, State};
use crate::io::keeper::protocol::SandboxId;

/// Name of the file in the runtime directory.
const FILE: &str = "state.json";
/// Where it is written before it is renamed.
const NEW: &str = "state.json.new";
/// Name of the file with what has changed since.
const LOG: &str = "state.log";
/// What is added to the name of a file that cannot be understood, before a number.
const DAMAGED: &str = ".damaged-";
/// A log that is shorter is not worth a new whole, in bytes.
const SHORT: usize = 64 << 10;

/// What an engine after this one has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// [`SCHEMA`].
    pub(super) schema: u32,
    /// Counts the wholes that an engine has written, and those before it.
    #[serde(default)]
    pub(super) generation: u64,
    /// The keeper whose engine this is.
    pub(super) keeper: String,
    /// Networks and containers.
    pub(super) state: Snapshot,
    /// Where the engine's ends of interfaces lie, by number of the port.
    pub(super) places: Vec<Seat>,
    /// Networks with a host port, and its number.
    pub(super) host_ports: Vec<(String, u32)>,
    /// First processes of containers.
    pub(super) processes: Vec<FirstProcess>,
}

/// Where the engine's end of an interface lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) port: u32,
    pub(super) sandbox: SandboxId,
    pub(super) ifindex: u32,
}

/// A container's first process, told apart from others of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FirstProcess {
    pub(super) pid: i32,
    /// When it was started, in clock ticks since the machine was.
    pub(super) since: u64,
    /// The container's monitor.
    pub(super) monitor: u32,
}

impl Keyed for Seat {
    type Key = u32;

    fn key(&self) -> &u32 {
        &self.port
    }
}

impl Keyed for FirstProcess {
    type Key = i32;

    fn key(&self) -> &i32 {
        &self.pid
    }
}

/// What has changed since a record was made: a line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// That of the record.
    generation: u64,
    state: Change,
    places: Difference<u32, Seat>,
    processes: Difference<i32, FirstProcess>,
    host_ports: Option<Vec<(String, u32)>>,
}

impl Line {
    fn is_empty(&self) -> bool {
        let lists = self.places.is_empty() && self.processes.is_empty();
        lists && self.state.is_empty() && self.host_ports.is_none()
    }
}

impl Record {
    /// What has changed since, when there is this now. Places and processes are in the order of their keys.
    pub(super) fn line(
        &self,
        state: &State,
        places: &[Seat],
        processes: &[FirstProcess],
        host_ports: Vec<(String, u32)>,
    ) -> Line {
        Line {
            generation: self.generation,
            state: state.change_since(&self.state),
            places: Difference::between(&self.places, places.iter()),
            processes: Difference::between(&self.processes, processes.iter()),
            host_ports: (self.host_ports != host_ports).then_some(host_ports),
        }
    }

    fn apply(&mut self, line: Line) {
        self.state.apply(line.state);
        line.places.apply(&mut self.places);
        line.processes.apply(&mut self.processes);
        if let Some(host_ports) = line.host_ports {
            self.host_ports = host_ports;
        }
    }
}

/// Says which shape the rest has.
#[derive(Deserialize)]
struct Shape {
    schema: u32,
}

/// The files.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    /// What the files say. Nothing is known of it after a write that has failed.
    written: Option<Record>,
    generation: u64,
    whole_bytes: usize,
    log_bytes: usize,
    /// Why the last write has failed.
    trouble: Option<String>,
}

impl Store {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            written: None,
            generation: 0,
            whole_bytes: 0,
            log_bytes: 0,
            trouble: None,
        }
    }

    /// What was written last, and the state in it. Files that cannot be understood are set aside, which
    /// is said in the log.
    pub(super) fn load(&mut self) -> Option<(Record, State)> {
        let bytes = match fs::read(self.directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Without a whole, a log says nothing.
                let _ = fs::remove_file(self.directory.join(LOG));
                return None;
            }
            read => read,
        };
        let understood = bytes.and_then(|bytes| Ok((bytes, self.read_log()?)));
        let understood = understood.map_err(|error| error.to_string());
        match understood.and_then(|(whole, log)| understand(&whole, &log)) {
            Ok((record, state)) => {
                self.generation = record.generation;
                Some((record, state))
            }
            Err(why) => {
                for file in [FILE, LOG] {
                    self.set_aside(file, &why);
                }
                None
            }
        }
    }

    fn read_log(&self) -> io::Result<Vec<u8>> {
        match fs::read(self.directory.join(LOG)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
    }

    fn set_aside(&self, file: &str, why: &str) {
        let path = self.directory.join(file);
        if !path.exists() {
            return;
        }
        let aside = (1_u32..).map(|n| self.directory.join(format!("{file}{DAMAGED}{n}")));
        let aside = aside.into_iter().find(|path| !path.exists());
        let moved = aside.map(|aside| fs::rename(&path, &aside).map(|()| aside));
        let whither = match moved {
            Some(Ok(aside)) => format!("set aside as {}", aside.display()),
            Some(Err(error)) => format!("not set aside: {error}"),
            None => "not set aside".to_owned(),
        };
        log!(
            "{}: {why}; {whither}. Nothing of it is used",
            path.display()
        );
    }

    /// What the files say, unless it is time to write everything again.
    pub(super) fn written(&self) -> Option<&Record> {
        let long = self.log_bytes > self.whole_bytes.max(SHORT);
        self.written.as_ref().filter(|_| !long)
    }

    /// Writes down what has changed since what is [written](Self::written).
    pub(super) fn append(&mut self, line: Line) {
        if line.is_empty() {
            return;
        }
        let done = self.add(&line);
        match (self.note(LOG, done), &mut self.written) {
            (true, Some(written)) => written.apply(line),
            _ => self.written = None,
        }
    }

    fn add(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        let mut options = OpenOptions::new();
        let log = options.append(true).create(true);
        let mut log = log.open(self.directory.join(LOG))?;
        log.write_all(&bytes)?;
        self.log_bytes += bytes.len();
        log.sync_data()
    }

    /// Writes everything.
    pub(super) fn replace(&mut self, mut record: Record) {
        record.generation = self.generation + 1;
        let done = self.replace_whole(&record);
        if self.note(FILE, done) {
            self.generation = record.generation;
            self.written = Some(record);
            self.log_bytes = 0;
            // Its lines are of another whole, and say so.
            let _ = fs::remove_file(self.directory.join(LOG));
        }
    }

    fn replace_whole(&mut self, record: &Record) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        let new = self.directory.join(NEW);
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.directory.join(FILE))?;
        self.whole_bytes = bytes.len();
        File::open(&self.directory)?.sync_all()
    }

    /// What goes wrong is said in the log once, and shown until it is over ([`trouble`](Self::trouble)).
    fn note(&mut self, file: &str, done: io::Result<()>) -> bool {
        let trouble = done.err().map(|error| {
            let path = self.directory.join(file);
            format!("{}: {error}", path.display())
        });
        if let Some(what) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            log!("{what}. An engine after this one would not know what has changed since");
        }
        self.trouble = trouble;
        self.trouble.is_none()
    }

    /// Why the file does not say what is.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Removes the file: there is nothing that an engine after this one would have to know.
    pub(super) fn remove(&self) {
        for name in [LOG, FILE, NEW] {
            // It may never have been written.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }
}

fn understand(whole: &[u8], log: &[u8]) -> Result<(Record, State), String> {
    let damaged = |error: serde_json::Error| format!("damaged: {error}");
    let shape: Shape = serde_json::from_slice(whole).map_err(damaged)?;
    if shape.schema != SCHEMA {
        return Err(format!(
            "of schema {}, this engine writes {SCHEMA}",
            shape.schema
        ));
    }
    let mut record: Record = serde_json::from_slice(whole).map_err(damaged)?;
    // What comes after the last line's end was not written to its end.
    let lines = log.split_inclusive(|byte| *byte == b'\n');
    for line in lines.filter(|line| line.ends_with(b"\n")) {
        let line: Line = serde_json::from_slice(line).map_err(damaged)?;
        if line.generation == record.generation {
            record.apply(line);
        } else if line.generation > record.generation {
            return Err("older than its log".to_owned());
        }
    }
    let state =
        State::restore(record.state.clone()).map_err(|error| format!("damaged: {error}"))?;
    Ok((record, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            schema: SCHEMA,
            generation: 0,
            keeper: "keeper".to_owned(),
            state: State::default().snapshot(),
            places: Vec::new(),
            host_ports: vec![("bridge".to_owned(), 7)],
            processes: Vec::new(),
        }
    }

    fn place(test: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pt-store-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_written_is_read_and_leaves_nothing_beside_it() {
        let directory = place("whole");
        let mut store = Store::new(&directory);
        assert!(store.load().is_none());
        store.replace(record());
        assert_eq!(store.trouble(), None);
        let (read, _) = Store::new(&directory).load().unwrap();
        assert_eq!(read.host_ports, record().host_ports);
        assert_eq!(names(&directory), ["state.json"]);
        store.remove();
        assert!(names(&directory).is_empty());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_set_aside() {
        let directory = place("damaged");
        let whole = serde_json::to_string(&record()).unwrap();
        let foreign = whole.replace(&format!("\"schema\":{SCHEMA}"), "\"schema\":0");
        let unknown = whole.replacen('{', "{\"more\":1,", 1);
        let texts = [&whole[..whole.len() / 2], "", &foreign, &unknown];
        for (nth, text) in texts.into_iter().enumerate() {
            fs::write(directory.join(FILE), text).unwrap();
            assert!(Store::new(&directory).load().is_none(), "{text}");
            let aside = directory.join(format!("{FILE}{DAMAGED}{}", nth + 1));
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
        assert!(!directory.join(FILE).exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn any_cut_of_a_file_is_noticed() {
        let whole = serde_json::to_vec(&record()).unwrap();
        assert!(understand(&whole, b"").is_ok());
        for length in 0..whole.len() {
            assert!(understand(&whole[..length], b"").is_err(), "{length}");
        }
    }

    /// A store with a whole that has port 1 in it, and three lines, each with one port more.
    fn with_log(test: &str) -> (PathBuf, Store) {
        let directory = place(test);
        let mut store = Store::new(&directory);
        let seats: Vec<_> = (1..=4).map(seat).collect();
        store.replace(Record {
            places: seats[..1].to_vec(),
            ..record()
        });
        for count in 2..=4 {
            let written = store.written().unwrap();
            let state = State::default();
            let line = written.line(&state, &seats[..count], &[], record().host_ports);
            store.append(line);
        }
        (directory, store)
    }

    fn seat(port: u32) -> Seat {
        Seat {
            port,
            sandbox: SandboxId::SHARED,
            ifindex: port + 10,
        }
    }

    /// Ports of which the files say where they lie.
    fn ports(directory: &Path) -> Vec<u32> {
        let (record, _) = Store::new(directory).load().unwrap();
        record.places.iter().map(|seat| seat.port).collect()
    }

    #[test]
    fn changes_are_read_as_far_as_they_were_written() {
        let (directory, _) = with_log("log");
        assert_eq!(ports(&directory), [1, 2, 3, 4]);
        let log = fs::read(directory.join(LOG)).unwrap();
        for length in 0..log.len() {
            fs::write(directory.join(LOG), &log[..length]).unwrap();
            let lines = log[..length].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(
                ports(&directory),
                (1..=1 + lines as u32).collect::<Vec<_>>()
            );
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn nothing_is_written_when_nothing_has_changed() {
        let (directory, mut store) = with_log("same");
        let before = fs::read(directory.join(LOG)).unwrap();
        let written = store.written().unwrap();
        let places = written.places.clone();
        store.append(written.line(&State::default(), &places, &[], record().host_ports));
        assert_eq!(fs::read(directory.join(LOG)).unwrap(), before);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_log_says_nothing_of_another_whole() {
        let (directory, mut store) = with_log("generations");
        let log = fs::read(directory.join(LOG)).unwrap();
        store.replace(record());
        assert_eq!(names(&directory), ["state.json"]);
        fs::write(directory.join(LOG), &log).unwrap();
        assert_eq!(ports(&directory), [0; 0]);
        let (other, _) = with_log("generations-other");
        fs::copy(other.join(FILE), directory.join(FILE)).unwrap();
        let newer = String::from_utf8(log).unwrap();
        let newer = newer.replace("\"generation\":1", "\"generation\":2");
        fs::write(directory.join(LOG), newer).unwrap();
        assert!(Store::new(&directory).load().is_none());
        let aside = ["state.json.damaged-1", "state.log.damaged-1"];
        assert_eq!(names(&directory), aside);
        fs::remove_dir_all(directory).unwrap();
        fs::remove_dir_all(other).unwrap();
    }

    #[test]
    fn a_long_log_becomes_a_new_whole() {
        let (directory, mut store) = with_log("long");
        store.log_bytes = SHORT + store.whole_bytes + 1;
        assert!(store.written().is_none());
        store.replace(record());
        assert!(store.written().is_some());
        assert_eq!(names(&directory), ["state.json"]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn after_a_change_that_could_not_be_written_everything_is() {
        let (directory, mut store) = with_log("failed");
        let line = |store: &Store, places: &[Seat]| {
            let written = store.written().unwrap();
            written.line(&State::default(), places, &[], record().host_ports)
        };
        fs::remove_file(directory.join(LOG)).unwrap();
        fs::create_dir(directory.join(LOG)).unwrap();
        store.append(line(&store, &[]));
        assert!(
            store
                .trouble()
                .is_some_and(|what| what.contains("state.log"))
        );
        assert!(store.written().is_none());
        fs::remove_dir(directory.join(LOG)).unwrap();
        store.replace(record());
        assert_eq!(store.trouble(), None);
        assert_eq!(ports(&directory), [0; 0]);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_directory_that_is_gone_is_trouble_until_it_is_back() {
        let directory = place("gone");
        fs::remove_dir_all(&directory).unwrap();
        let mut store = Store::new(&directory);
        store.replace(record());
        assert!(
            store
                .trouble()
                .is_some_and(|what| what.contains("state.json"))
        );
        fs::create_dir_all(&directory).unwrap();
        store.replace(record());
        assert_eq!(store.trouble(), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
