//! The control plane's state: what users asked for, and what was decided for them.
//!
//! Pure like the datapath: names, addresses and numbers are allocated here, randomness comes in as an
//! argument, and nothing is touched. The shell (`io::control`) carries decisions out and takes them
//! back when that fails.

pub mod address;
pub mod api;
pub mod name;
pub mod naming;
pub mod publish;
pub mod state;

use std::fmt;

/// What a user asked for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Invalid {
    /// The field that is wrong, as the command line names it.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Invalid {
    /// `field` is wrong because of `reason`.
    pub fn new(field: &str, reason: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            reason: reason.into(),
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
