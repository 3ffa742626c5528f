//! What holds for any messages, and for those the fuzzer found worth keeping.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use std::fs;
use std::path::Path;

use pontoon_names::*;
use proptest::prelude::*;
use world::any::names_any;
use world::*;

/// Queries that are served, more or less.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just("many".to_owned()),
        Just("9.0.0.10.in-addr.arpa".to_owned()),
        "[a-cA-C]{1,2}(\\.net)?",
        "[a-z.]{0,20}",
    ];
    let kind = prop_oneof![Just(A), Just(AAAA), Just(PTR), any::<u16>()];
    let payload = proptest::option::of(any::<u16>());
    (0..4_u16, name, kind, payload).prop_map(|(id, name, kind, payload)| match payload {
        Some(payload) => query_edns(id, &name, kind, payload),
        None => query(id, &name, kind),
    })
}

/// A record of [`names_any`].
fn record() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        4 => message(),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    (any::<u8>(), any::<u8>(), body).prop_map(|(kind, choice, body)| {
        let len = (body.len() as u16).to_be_bytes();
        [&[kind, choice, len[0], len[1]], &body[..]].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_forwarded_query_ends_once(records in proptest::collection::vec(record(), 0..60)) {
        names_any(&records.concat());
    }

    #[test]
    fn any_bytes_do_no_harm(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
        names_any(&data);
    }

    #[test]
    fn a_flipped_bit_does_no_harm(mut message in message(), place: prop::sample::Index, bit in 0..8) {
        let at = place.index(message.len());
        message[at] ^= 1_u8 << bit;
        let action = ask(&mut names(), client(INTERNAL), &message);
        let leaks = matches!(action, Action::Forward { .. });
        prop_assert!(!leaks);
    }

    #[test]
    fn a_stream_gives_back_what_was_framed(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8),
        chunk in 1..400_usize,
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
        let mut decoder = StreamDecoder::new(300);
        let mut found = Vec::new();
        for mut bytes in stream.chunks(chunk) {
            while let Some(message) = decoder.next_message(&mut bytes).unwrap() {
                found.push(message);
            }
            prop_assert!(bytes.is_empty() && decoder.held() < 302);
        }
        prop_assert_eq!(found, messages);
    }

    #[test]
    fn any_stream_is_held_within_its_bound(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let mut decoder = StreamDecoder::new(100);
        let mut rest = &bytes[..];
        while let Ok(Some(message)) = decoder.next_message(&mut rest) {
            prop_assert!(message.len() <= 100);
        }
        prop_assert!(decoder.held() <= 102);
    }

    #[test]
    fn any_text_is_read(text in "(nameserver|search|domain|options)?[ \t\\PC\n]{0,60}") {
        let conf = ResolvConf::parse(&text, |_| None);
        prop_assert!(conf.name_servers.len() <= 3);
        prop_assert_eq!(ResolvConf::parse(&conf.to_string(), |_| None), conf);
    }
}

#[test]
fn corpus_of_names() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/names");
    let entries: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    assert!(entries.len() >= 10, "only {} files", entries.len());
    for entry in entries {
        names_any(&fs::read(entry.unwrap().path()).unwrap());
    }
}
