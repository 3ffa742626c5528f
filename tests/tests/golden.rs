//! Captures go in, captures come out, byte for byte. `tests/golden/README.md` says how to change them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pontoon_packet::parse::protocol;
use pontoon_packet::{MacAddr, Offload, Timestamp, pretty};
use pontoon_switch::PortId;
use pontoon_tests::lab::{C1, C2, C3, Lab, ROUTER_MAC, Sent, UP, mac};
use pontoon_tests::pcap::{self, Record};
use pontoon_tests::wire::check_sums;

/// The ports that frames come from and go to, as the files are named.
const PORTS: [(PortId, &str); 4] = [(C1, "c1"), (C2, "c2"), (C3, "c3"), (UP, "up")];

fn file(name: &str) -> PathBuf {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    golden.join(format!("{name}.pcap"))
}

/// The port that the owner of a source address sends from.
fn ingress(bytes: &[u8]) -> PortId {
    let source = MacAddr(bytes[6..12].try_into().expect("six bytes"));
    match source {
        _ if source == mac(C1) => C1,
        _ if source == mac(C2) => C2,
        ROUTER_MAC => UP,
        other => panic!("nobody here has the address {other}"),
    }
}

#[derive(Default)]
struct Captures(BTreeMap<u32, Vec<Record>>);

impl Captures {
    fn keep(&mut self, at: Timestamp, sent: Vec<Sent>) {
        for frame in sent {
            assert_eq!(frame.offload, Offload::NONE, "{frame:?} is not for a pcap");
            check_sums(&frame.bytes, frame.offload).unwrap_or_else(|e| panic!("{e} in {frame:?}"));
            let bytes = frame.bytes;
            self.0
                .entry(frame.port.0)
                .or_default()
                .push(Record { at, bytes });
        }
    }

    /// Takes what was seen on a port.
    fn take(&mut self, port: PortId) -> Vec<Record> {
        self.0.remove(&port.0).unwrap_or_default()
    }
}

/// Everything that leaves when the frames come in at their times.
fn replay(input: &[Record]) -> Captures {
    let mut lab = Lab::new();
    lab.publish_tcp(8080, C2, 80);
    lab.publish(protocol::UDP, 5353, C2, 53);
    let mut captures = Captures::default();
    for record in input {
        let meanwhile = lab.pass(record.at.since(lab.now));
        captures.keep(lab.now, meanwhile);
        let sent = lab.send(ingress(&record.bytes), &record.bytes);
        captures.keep(lab.now, sent);
    }
    captures
}

/// Writes what is expected of a port, or removes the file when that is nothing.
fn bless(path: &PathBuf, records: &[Record]) {
    if records.is_empty() {
        fs::remove_file(path).ok();
    } else {
        fs::write(path, pcap::write(records)).expect("the directory can be written");
    }
}

fn lines(records: &[Record]) -> String {
    let line = |record: &Record| {
        let at = record.at.as_millis();
        format!("{at} {}\n", pretty::line(&record.bytes, Offload::NONE))
    };
    records.iter().map(line).collect()
}

fn compare(name: &str) {
    let input = fs::read(file(&format!("{name}.in"))).expect("the input is in the repository");
    let input = pcap::read(&input).unwrap_or_else(|e| panic!("{name}.in: {e}"));
    let mut captures = replay(&input);
    for (port, port_name) in PORTS {
        let path = file(&format!("{name}.{port_name}"));
        let found = captures.take(port);
        if std::env::var_os("PONTOON_BLESS").is_some() {
            bless(&path, &found);
        }
        let expected = fs::read(&path).unwrap_or_else(|_| pcap::write(&[]));
        let same = pcap::write(&found) == expected;
        let expected = pcap::read(&expected).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let (found, expected) = (lines(&found), lines(&expected));
        assert!(same, "{path:?}\nfound:\n{found}expected:\n{expected}");
    }
    assert!(captures.0.is_empty(), "{name}: frames at other ports");
}

#[test]
fn bridge() {
    compare("bridge");
}

#[test]
fn arp() {
    compare("arp");
}

#[test]
fn masquerade() {
    compare("masquerade");
}

#[test]
fn dnat() {
    compare("dnat");
}

#[test]
fn icmp_error() {
    compare("icmp_error");
}

#[test]
fn fragments() {
    compare("fragments");
}

#[test]
fn every_capture_belongs_to_a_test() {
    let tested = [
        "bridge",
        "arp",
        "masquerade",
        "dnat",
        "icmp_error",
        "fragments",
    ];
    let directory = file("any")
        .parent()
        .map(PathBuf::from)
        .expect("a directory");
    for entry in fs::read_dir(directory).expect("the captures are in the repository") {
        let name = entry.expect("a readable directory").file_name();
        let name = name.to_str().expect("a name in UTF-8");
        if let Some(name) = name.strip_suffix(".pcap") {
            let (scenario, _) = name.split_once('.').expect("SCENARIO.PORT.pcap");
            assert!(tested.contains(&scenario), "{name} is not replayed");
        }
    }
}
