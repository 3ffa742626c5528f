//! The lines that users of Docker know, for Pontoon: what it says to each is recorded beside what Docker
//! says, and every difference is explained in `docs/DOCKER.md`.

use std::collections::BTreeMap;
use std::fs;

use pontoon_tests::e2e::{pontoon, sh};

/// What runs the lines, by its name.
const FILES: [(&str, &str); 3] = [
    ("twin", include_str!("../twin/twin")),
    ("lines", include_str!("../twin/lines")),
    ("same.sed", include_str!("../twin/same.sed")),
];
/// What Docker 20.10 says, as `tests/twin/record` has found.
const DOCKER: &str = include_str!("../twin/docker.txt");
/// What Pontoon is to say.
const PONTOON: &str = include_str!("../twin/pontoon.txt");
const EXPLAINED: &str = include_str!("../../docs/DOCKER.md");

/// What is said to each line. A line that comes again is told apart by its number.
fn by_line(text: &str) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let mut times = BTreeMap::<&str, usize>::new();
    for part in text.split("\n$ ") {
        let part = part.strip_prefix("$ ").unwrap_or(part);
        let (line, answer) = part.split_once('\n').expect("a line and its status");
        let count = times.entry(line).or_default();
        *count += 1;
        let name = match *count {
            1 => line.to_owned(),
            n => format!("{line} ({n})"),
        };
        said.insert(name, answer.trim_end().to_owned());
    }
    said
}

pontoon_tests::namespace_tests! {
    fn pontoon_says_to_dockers_lines_what_is_recorded {
        for (name, text) in FILES {
            fs::write(format!("/run/{name}"), text).expect("a writable /run");
        }
        let program = pontoon();
        let said = sh(&format!("XDG_RUNTIME_DIR=/run/user bash /run/twin {} --", program.display()));
        let (said, expected) = (by_line(&said), by_line(PONTOON));
        for (line, answer) in &expected {
            let now = said.get(line).map(String::as_str);
            assert_eq!(now, Some(answer.as_str()), "$ pontoon {line}");
        }
        assert_eq!(said.len(), expected.len());
    }
}

#[test]
fn every_difference_from_docker_is_explained() {
    let (docker, pontoon) = (by_line(DOCKER), by_line(PONTOON));
    let lines: Vec<_> = docker.keys().collect();
    assert_eq!(lines, pontoon.keys().collect::<Vec<_>>());
    assert!(lines.len() > 40, "{}", lines.len());
    for (line, said) in &docker {
        let explained = EXPLAINED.contains(&format!("| `{line}` |"));
        assert_eq!(said != &pontoon[line], explained, "{line}");
    }
}
