//! The file in which an engine's state outlives it.
//!
//! It is replaced as a whole: written beside, brought to the disk, renamed. A file that cannot be
//! understood is set aside, so that nobody acts on half of it, and somebody can look at it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::control::state::{SCHEMA, Snapshot, State};
use crate::io::keeper::protocol::SandboxId;

/// Name of the file in the runtime directory.
const FILE: &str = "state.json";
/// Where it is written before it is renamed.
const NEW: &str = "state.json.new";
/// Name of a file that cannot be understood, before a number.
const DAMAGED: &str = "state.json.damaged-";

/// What an engine after this one has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// [`SCHEMA`].
    pub(super) schema: u32,
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
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) port: u32,
    pub(super) sandbox: SandboxId,
    pub(super) ifindex: u32,
}

/// A container's first process, told apart from others of the same number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct FirstProcess {
    pub(super) pid: i32,
    /// When it was started, in clock ticks since the machine was.
    pub(super) since: u64,
    /// The container's monitor.
    pub(super) monitor: u32,
}

/// Says which shape the rest has.
#[derive(Deserialize)]
struct Shape {
    schema: u32,
}

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    written: Vec<u8>,
    /// Why the last write has failed.
    trouble: Option<String>,
}

impl Store {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            written: Vec::new(),
            trouble: None,
        }
    }

    /// What was written last, and the state in it. A file that cannot be understood is set aside, which
    /// is said in the log.
    pub(super) fn load(&self) -> Option<(Record, State)> {
        let path = self.directory.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            read => read,
        };
        let understood = bytes.map_err(|error| error.to_string());
        match understood.and_then(|bytes| understand(&bytes)) {
            Ok(understood) => Some(understood),
            Err(why) => {
                self.set_aside(&path, &why);
                None
            }
        }
    }

    fn set_aside(&self, path: &Path, why: &str) {
        let aside = (1_u32..).map(|n| self.directory.join(format!("{DAMAGED}{n}")));
        let aside = aside.into_iter().find(|path| !path.exists());
        let moved = aside.map(|aside| fs::rename(path, &aside).map(|()| aside));
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

    /// Writes a record, unless it is what was written last. What goes wrong is said in the log once, and
    /// shown until it is over ([`trouble`](Self::trouble)).
    pub(super) fn write(&mut self, record: &Record) {
        let bytes = serde_json::to_vec(record).map_err(io::Error::from);
        let written = bytes.and_then(|bytes| {
            if bytes != self.written {
                self.replace(&bytes)?;
                self.written = bytes;
            }
            Ok(())
        });
        let trouble = written.err().map(|error| {
            let path = self.directory.join(FILE);
            format!("{}: {error}", path.display())
        });
        if let Some(what) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            log!("{what}. An engine after this one would not know what has changed since");
        }
        self.trouble = trouble;
    }

    /// Why the file does not say what is.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.directory.join(NEW);
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.directory.join(FILE))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Removes the file: there is nothing that an engine after this one would have to know.
    pub(super) fn remove(&self) {
        for name in [FILE, NEW] {
            // It may never have been written.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }
}

fn understand(bytes: &[u8]) -> Result<(Record, State), String> {
    let shape: Shape =
        serde_json::from_slice(bytes).map_err(|error| format!("damaged: {error}"))?;
    if shape.schema != SCHEMA {
        return Err(format!(
            "of schema {}, this engine writes {SCHEMA}",
            shape.schema
        ));
    }
    let record: Record =
        serde_json::from_slice(bytes).map_err(|error| format!("damaged: {error}"))?;
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
        store.write(&record());
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
            let aside = directory.join(format!("{DAMAGED}{}", nth + 1));
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
        }
        assert!(!directory.join(FILE).exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn any_cut_of_a_file_is_noticed() {
        let whole = serde_json::to_vec(&record()).unwrap();
        assert!(understand(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(understand(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_directory_that_is_gone_is_trouble_until_it_is_back() {
        let directory = place("gone");
        fs::remove_dir_all(&directory).unwrap();
        let mut store = Store::new(&directory);
        store.write(&record());
        assert!(
            store
                .trouble()
                .is_some_and(|what| what.contains("state.json"))
        );
        fs::create_dir_all(&directory).unwrap();
        store.write(&record());
        assert_eq!(store.trouble(), None);
        fs::remove_dir_all(directory).unwrap();
    }
}
