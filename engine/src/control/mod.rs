//! The control plane's state: what users asked for, and what was decided for them.
//!
//! Pure like the datapath: names, addresses and numbers are allocated here, randomness comes in as an
//! argument, and nothing is touched. The shell (`io::control`) carries decisions out and takes them
//! back when that fails.

pub mod address;
pub mod api;
pub mod driver_options;
pub mod event;
pub mod fault;
pub mod files;
pub mod labels;
pub mod name;
pub mod naming;
pub mod place;
pub mod publish;
pub mod state;

use std::fmt;

/// Why something cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for makes no sense, or not here.
    #[default]
    Wrong,
    /// What it is about is not there.
    Missing,
    /// Something that is there is in the way.
    Conflict,
    /// What should have worked did not.
    Broken,
}

/// What a user asked for cannot be had.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Invalid {
    /// Why it cannot. Whoever reads the other fields is told by other means.
    #[serde(skip)]
    pub kind: Kind,
    /// The field that is wrong, by its own name where it is part of another one; empty when it is none.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Invalid {
    /// `field` is wrong because of `reason`.
    pub fn new(field: &str, reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Wrong,
            field: field.to_owned(),
            reason: reason.into(),
        }
    }

    /// What `field` names is not there.
    pub fn missing(field: &str, reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Missing,
            ..Self::new(field, reason)
        }
    }

    /// Something that is there is in the way of `field`.
    pub fn conflict(field: &str, reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Conflict,
            ..Self::new(field, reason)
        }
    }

    /// The same of another field.
    #[must_use]
    pub fn of(self, field: &str) -> Self {
        let field = field.to_owned();
        Self { field, ..self }
    }

    /// What should have worked did not.
    pub fn broken(reason: impl Into<String>) -> Self {
        Self {
            kind: Kind::Broken,
            ..Self::new("", reason)
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.field, self.reason)
        }
    }
}

impl std::error::Error for Invalid {}
