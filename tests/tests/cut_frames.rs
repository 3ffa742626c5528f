//! Every kind of frame cut at every length, and with every bit and byte changed.

use pontoon_packet::checksum::is_half_done;
use pontoon_packet::{Facts, L3, L4, icmp, parse};
use pontoon_tests::lab::{Lab, Sent};
use pontoon_tests::samples::{self, Sample, Way};
use pontoon_tests::wire::check_sums;

/// Where the EtherType of an untagged frame lies.
const ETHERTYPE: usize = 12;

/// The sample behind everything that its lab has seen, and what became of it.
fn send(sample: &Sample, bytes: &[u8]) -> (Lab, Vec<Sent>) {
    let mut lab = samples::lab();
    let sent = lab.send_with(sample.port, bytes, sample.offload);
    (lab, sent)
}

fn unchanged(sent: &Sent, bytes: &[u8], sample: &Sample) -> bool {
    sent.bytes == bytes && sent.offload == sample.offload
}

/// Where the last byte that means something lies: behind it is an Ethernet trailer.
fn meaning(bytes: &[u8]) -> usize {
    let facts = parse(bytes).expect("samples are well-formed");
    match facts.l3 {
        L3::Ip(ip) => ip.end(),
        L3::Arp(_) => facts.l3_start + 28,
        L3::Other => facts.l3_start,
    }
}

#[test]
fn every_sample_arrives_somewhere_when_it_is_whole() {
    for sample in samples::all() {
        let (lab, sent) = send(&sample, &sample.bytes);
        assert!(!sent.is_empty(), "{}: {:?}", sample.name, lab.all_drops());
        let switched = sent
            .iter()
            .any(|sent| unchanged(sent, &sample.bytes, &sample));
        assert_eq!(switched, sample.way == Way::Switched, "{}", sample.name);
        for sent in &sent {
            check(&sample, &sample.bytes, sent);
        }
    }
}

#[test]
fn a_cut_frame_is_switched_as_it_came_or_not_at_all() {
    let samples = samples::all();
    for sample in samples.iter().filter(|s| s.way == Way::Switched) {
        for length in 0..sample.bytes.len() {
            let cut = &sample.bytes[..length];
            let (_, sent) = send(sample, cut);
            let whole = length >= meaning(&sample.bytes);
            assert!(!whole || !sent.is_empty(), "{}: {length}", sample.name);
            for sent in &sent {
                let name = sample.name;
                assert!(unchanged(sent, cut, sample), "{name}: {length}: {sent:?}");
                assert_ne!(sent.port, sample.port, "{name}: {length}");
            }
        }
    }
}

#[test]
fn a_cut_frame_goes_nowhere_through_the_gateway_and_leaves_no_trace() {
    let before = samples::lab();
    let flows = before.datapath.flows(before.now);
    let samples = samples::all();
    for sample in samples.iter().filter(|s| s.way == Way::Gateway) {
        for length in 0..meaning(&sample.bytes) {
            let (lab, sent) = send(sample, &sample.bytes[..length]);
            assert_eq!(sent, [], "{}: {length}", sample.name);
            assert_eq!(lab.datapath.flows(lab.now), flows, "{}", sample.name);
        }
    }
}

#[test]
fn a_cut_trailer_changes_nothing_that_the_gateway_says() {
    let samples = samples::all();
    let padded = samples.iter().filter(|s| s.way == Way::Gateway);
    for sample in padded {
        let whole = meaning(&sample.bytes);
        let payload = |sent: &[Sent]| -> Vec<Vec<u8>> {
            let cut = |sent: &Sent| sent.bytes[..meaning(&sent.bytes)].to_vec();
            sent.iter().map(cut).collect()
        };
        let expected = payload(&send(sample, &sample.bytes).1);
        for length in whole..sample.bytes.len() {
            let (_, sent) = send(sample, &sample.bytes[..length]);
            assert_eq!(payload(&sent), expected, "{}: {length}", sample.name);
        }
    }
}

#[test]
fn a_changed_byte_never_makes_the_gateway_say_what_was_not_sent() {
    for sample in samples::all() {
        for at in 0..sample.bytes.len() {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut bytes = sample.bytes.clone();
                bytes[at] ^= mask;
                let (_, sent) = send(&sample, &bytes);
                for sent in &sent {
                    check(&sample, &bytes, sent);
                }
            }
        }
    }
}

#[test]
fn a_byte_changed_under_full_sums_goes_nowhere_through_the_gateway() {
    let before = samples::lab();
    let flows = before.datapath.flows(before.now);
    for sample in samples::all().iter().filter(|sample| is_covered(sample)) {
        for at in ETHERTYPE..meaning(&sample.bytes) {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut bytes = sample.bytes.clone();
                bytes[at] ^= mask;
                let (lab, sent) = send(sample, &bytes);
                assert_eq!(sent, [], "{}: {at} ^ {mask}", sample.name);
                assert_eq!(lab.datapath.flows(lab.now), flows, "{}", sample.name);
            }
        }
    }
}

/// Sums cover every byte of it behind the Ethernet header.
fn is_covered(sample: &Sample) -> bool {
    let facts = parse(&sample.bytes).expect("samples are well-formed");
    let covered = facts.ip().is_some_and(|ip| ip.l4 != L4::Other);
    covered && sample.way == Way::Gateway && !sample.offload.is_partial()
}

/// A frame that left is either the one that came, at another port, or one of the gateway's making:
/// well-formed, with sums that hold, and without a byte that nobody sent.
fn check(sample: &Sample, bytes: &[u8], sent: &Sent) {
    let name = sample.name;
    if unchanged(sent, bytes, sample) {
        assert_ne!(sent.port, sample.port, "{name}: {sent:?} came back");
        return;
    }
    let facts = sent.facts();
    if !sent.offload.is_partial() {
        check_sums(&sent.bytes, sent.offload).unwrap_or_else(|e| panic!("{name}: {e}: {sent:?}"));
    } else if let Some(ip) = facts.ip() {
        assert!(is_half_done(sent.offload, ip), "{name}: {sent:?}");
    }
    let heard = |part: &[u8]| contains(bytes, part) || contains(&samples::EARLIER, part);
    let (said, trailer) = said(sample, sent, &facts);
    assert!(heard(said), "{name}: {sent:?}");
    let padded = trailer.iter().all(|byte| *byte == 0);
    assert!(padded || bytes.ends_with(trailer), "{name}: {sent:?}");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

/// What a frame of the gateway's making says that is not in headers, and what follows it.
fn said<'a>(sample: &Sample, sent: &'a Sent, facts: &Facts) -> (&'a [u8], &'a [u8]) {
    let Some(ip) = facts.ip() else {
        return (&[], &sent.bytes[facts.l3_start + 28..]);
    };
    let reported = sent.port == sample.port;
    let header = match (ip.l4, ip.fragment) {
        (L4::Tcp(_), _) => 20,
        (L4::Icmp(header), _) if icmp::is_error(header.kind) && !reported => TRANSLATED_ERROR,
        (L4::Udp(_) | L4::Icmp(_), _) => 8,
        (L4::Fragment, Some(part)) if part.offset == 0 => 8,
        (L4::Fragment | L4::Other, _) => 0,
    };
    let (datagram, trailer) = sent.bytes.split_at(ip.end());
    (&datagram[ip.l4_start() + header..], trailer)
}

/// Headers in an error about a flow: its own, and those of the datagram it quotes, which are
/// translated. What the gateway itself reports quotes everything as it came.
const TRANSLATED_ERROR: usize = 8 + 20 + 8;
