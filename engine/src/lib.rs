//! The engine of Pontoon.
#![deny(unsafe_code)]

#[cfg(feature = "io")]
pub mod io;
