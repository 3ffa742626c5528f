//! Shared parts of the tests.

pub mod carriage;
pub mod e2e;
pub mod flow_model;
pub mod fuzz;
pub mod lab;
pub mod outside;
pub mod pcap;
pub mod samples;
pub mod sim;
pub mod talk;
pub mod wire;
