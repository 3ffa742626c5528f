//! The file: which it is, where it lies, and what project it is of.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::fields::Surroundings;
use super::file::{check_project, read, read_name};
use super::project::{Project, project};
use super::yaml::{Fault, MAX_BYTES, decode};
use crate::client::Failure;

/// Files that are looked for where none is named.
const NAMES: [&str; 4] = ["pontoon.yaml", "pontoon.yml", "compose.yaml", "compose.yml"];

/// A file that was read.
pub(super) struct Source {
    path: PathBuf,
    directory: PathBuf,
    text: String,
}

impl Source {
    /// Reads the file that was named, or the first of those that are looked for here.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => looked_for()?,
        };
        let broken = |error| Failure::own(&path.display().to_string(), error);
        let text = decode(bounded(&path).map_err(broken)?)
            .map_err(|fault| Failure::own(&format!("{}:{}", path.display(), fault.line), fault))?;
        let whole = fs::canonicalize(&path).map_err(broken)?;
        let directory = whole.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self {
            path,
            directory,
            text,
        })
    }

    /// The project under the name that was given, the file's, or the directory's.
    pub(super) fn project(&self, named: Option<&str>) -> Result<Project, Failure> {
        let file = read(&self.text, self).map_err(|fault| self.broken(&fault))?;
        let name = self.called(named.or(file.name.as_deref()))?;
        project(&file, &name, &self.directory).map_err(|fault| self.broken(&fault))
    }

    /// The project's name, whatever else the file says.
    pub(super) fn name(&self) -> Result<String, Failure> {
        let name = read_name(&self.text, self).map_err(|fault| self.broken(&fault))?;
        self.called(name.as_deref())
    }

    fn called(&self, given: Option<&str>) -> Result<String, Failure> {
        let name = given.map_or_else(|| name_of(&self.directory), str::to_owned);
        check_project(&name).map_err(|what| Failure::own("--project", what))?;
        Ok(name)
    }

    fn broken(&self, fault: &Fault) -> Failure {
        Failure::own(&format!("{}:{}", self.path.display(), fault.line), fault)
    }
}

impl Surroundings for Source {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &str) -> io::Result<String> {
        let text = decode(bounded(&self.directory.join(path))?);
        text.map_err(|fault| {
            let what = format!("line {}: {fault}", fault.line);
            io::Error::new(io::ErrorKind::InvalidData, what)
        })
    }
}

/// What a file holds, up to one byte more than it may.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let more = MAX_BYTES as u64 + 1;
    File::open(path)?.take(more).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn looked_for() -> Result<PathBuf, Failure> {
    let mut paths = NAMES.iter().map(PathBuf::from);
    paths.find(|path| path.exists()).ok_or_else(|| {
        let what = format!("none of {} is here; name one with -f", NAMES.join(", "));
        Failure::own("no file", what)
    })
}

/// What of a directory's name can be in a project's, as compose makes it.
fn name_of(directory: &Path) -> String {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_lowercase();
    let is_name = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c);
    let name: String = name.chars().filter(is_name).take(40).collect();
    let name = name.trim_start_matches(['_', '-']);
    match name {
        "" => "default".to_owned(),
        name => name.to_owned(),
    }
}
