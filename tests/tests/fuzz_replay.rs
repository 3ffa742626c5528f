//! Replays the corpus of every fuzz target.

use std::fs;
use std::path::Path;

use pontoon_tests::fuzz::{datapath_any, parse_any, relay_any, rewrite_any, uplink_any};

fn replay(target: &str, body: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&directory).expect("the corpus is in the repository");
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        body(&fs::read(&path).expect("a readable file"));
        count += 1;
    }
    assert!(
        count >= 10,
        "{} holds only {count} files",
        directory.display()
    );
}

#[test]
fn corpus_of_parse() {
    replay("parse", parse_any);
}

#[test]
fn corpus_of_rewrite() {
    replay("rewrite", rewrite_any);
}

#[test]
fn corpus_of_datapath() {
    replay("datapath", datapath_any);
}

#[test]
fn corpus_of_relay() {
    replay("relay", relay_any);
}

#[test]
fn corpus_of_uplink() {
    replay("uplink", uplink_any);
}
