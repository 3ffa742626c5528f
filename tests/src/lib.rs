//! Shared parts of the tests.

pub mod fuzz;
pub mod lab;
