//! YAML as a tree that remembers its lines.
//!
//! Anchors, aliases and merge keys are resolved; tags and further documents are refused. Size, depth and
//! the number of nodes after aliases are bounded.

mod builder;
#[cfg(test)]
mod tests;

use std::fmt;

use saphyr_parser::{Parser, ScanError};

use builder::Builder;

/// Largest file, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line, from 1.
    pub(super) line: usize,
    /// Path of the field, as `services.web.ports`; empty for the file as a whole.
    pub(super) field: String,
    /// What is wrong, and what to do.
    pub(super) what: String,
}

impl Fault {
    /// `field` in this line is wrong because of `what`.
    pub(super) fn new(line: usize, field: &str, what: impl Into<String>) -> Self {
        Self {
            line,
            field: field.to_owned(),
            what: what.into(),
        }
    }
}

/// Without the line, which stands beside the file's name.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.what),
            field => write!(f, "{field}: {}", self.what),
        }
    }
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Line, from 1.
    pub(super) line: usize,
    /// What it is.
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar, as it was written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, each name once.
    Map(Vec<(String, Node)>),
}

/// The text of a file that holds these bytes.
///
/// # Errors
/// There are too many, or they are not UTF-8.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, Fault> {
    if bytes.len() > MAX_BYTES {
        let what = format!("larger than {MAX_BYTES} bytes");
        return Err(Fault::new(1, "", what));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let lines = error.as_bytes()[..good].iter().filter(|b| **b == b'\n');
        Fault::new(lines.count() + 1, "", "not UTF-8")
    })
}

/// Reads the one document of a file.
///
/// # Errors
/// It is not YAML, has a name twice, is nested too deep, or has too many values.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| not_yaml(&error))?;
        builder.take(event, span)?;
    }
    let nothing = || Fault::new(1, "", "the file is empty; expected services:");
    builder.root().ok_or_else(nothing)
}

fn not_yaml(error: &ScanError) -> Fault {
    let what = format!("not YAML: {}", error.info());
    Fault::new(error.marker().line(), "", what)
}
