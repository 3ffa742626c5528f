use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::control::Invalid;
use crate::control::api::Request;
use crate::io::control::transport::Listener;
use crate::io::fdpass::send_piece;

const SOON: Duration = Duration::from_secs(20);

/// Two ends: a client's socket, and the engine's side of it.
fn pair() -> (UnixStream, Wire) {
    let (client, server) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    (client, Wire::new(server.into()).unwrap())
}

/// What the engine reads of these bytes, after which the client says no more.
fn heard(bytes: &[u8]) -> Result<Received, Fault> {
    let (mut client, mut wire) = pair();
    let bytes = bytes.to_vec();
    let sender = thread::spawn(move || {
        // The engine may stop reading.
        let _ = client.write_all(&bytes);
        let _ = client.shutdown(std::net::Shutdown::Write);
        client
    });
    let received = receive(&mut wire, SOON);
    drop(wire);
    drop(sender.join().unwrap());
    received
}

fn status(bytes: &[u8]) -> u16 {
    match heard(bytes) {
        Err(Fault::Wrong(status, _)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_read_with_either_framing() {
    let text = "POST /v1/networks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let counted = format!("{text}Content-Length: 4\r\n\r\nbodyGET");
    let chunked = format!(
        "{text}Transfer-Encoding: chunked\r\n\r\n3\r\nbod\r\n1;x=y\r\ny\r\n0\r\nA: b\r\n\r\n"
    );
    for message in [counted, chunked] {
        let received = heard(message.as_bytes()).unwrap();
        assert_eq!(
            (received.method.as_str(), received.target.as_str()),
            ("POST", "/v1/networks")
        );
        assert_eq!(received.body, b"body", "{message}");
        assert_eq!(received.media_type.as_deref(), Some("application/json"));
        assert!(!received.closes);
    }
}

#[test]
fn who_closes_and_who_does_not() {
    for (text, closes) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", false),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: a, Close\r\n\r\n",
            true,
        ),
        ("GET / HTTP/1.0\r\n\r\n", true),
    ] {
        assert_eq!(heard(text.as_bytes()).unwrap().closes, closes, "{text}");
    }
}

/// What is not to be read, and the status that says so.
fn wrong() -> Vec<(String, u16)> {
    let with = |fields: &str| format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
    let chunks = |chunks: &str| with("Transfer-Encoding: chunked\r\n") + chunks;
    let long = "x".repeat(MAX_HEAD);
    vec![
        ("garbage\r\n\r\n".to_owned(), 400),
        ("\0\0\0\0\u{7f}\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(), 505),
        ("GET / HT".to_owned(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 431),
        (with("Host: y\r\n"), 400),
        (with(&"A: b\r\n".repeat(MAX_FIELDS)), 431),
        (with(&format!("A: {long}\r\n")), 431),
        (with("Content-Length: -1\r\n"), 400),
        (with("Content-Length: +1\r\n"), 400),
        (with("Content-Length: 99999999999999999999\r\n"), 400),
        (with("Content-Length: 65537\r\n"), 413),
        (with("Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (
            with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        (with("Content-Length: 9\r\n") + "half", 400),
        (with("Transfer-Encoding: gzip\r\n"), 501),
        (with("Expect: cake\r\n"), 417),
        (chunks("x\r\n"), 400),
        (chunks("1\r\nabc"), 400),
        (chunks("fffff\r\n"), 413),
        (chunks("ffffffffffffffff\r\n"), 413),
    ]
}

/// BAD-08.
#[test]
fn what_is_not_http_is_refused_with_the_status_that_says_so() {
    for (text, expected) in wrong() {
        assert_eq!(status(text.as_bytes()), expected, "{text:.80}");
    }
}

#[test]
fn a_client_that_says_nothing_is_left_without_an_answer() {
    assert!(matches!(heard(b""), Err(Fault::Ended)));
    let (_client, mut wire) = pair();
    assert!(matches!(
        receive(&mut wire, Duration::from_millis(20)),
        Err(Fault::Late)
    ));
}

#[test]
fn a_request_that_never_ends_is_not_waited_for() {
    let (mut client, mut wire) = pair();
    let writer = thread::spawn(move || {
        let text = b"GET / HTTP/1.1\r\nA: "
            .iter()
            .chain(std::iter::repeat(&b'x'));
        for byte in text {
            if client.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    let answer = receive(&mut wire, SOON);
    assert!(matches!(answer, Err(Fault::Wrong(408, _))), "{answer:?}");
    wire.turn_away(Duration::ZERO);
    writer.join().unwrap();
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let (mut client, mut wire) = pair();
    let engine = thread::spawn(move || receive(&mut wire, SOON));
    let text = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.write_all(text).unwrap();
    let mut word = [0; 25];
    client.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"ok").unwrap();
    assert_eq!(engine.join().unwrap().unwrap().body, b"ok");
}

#[test]
fn requests_that_follow_each_other_at_once_are_read_one_by_one() {
    let (mut client, mut wire) = pair();
    for path in ["a", "b", "c"] {
        write!(client, "GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    for path in ["/a", "/b", "/c"] {
        assert_eq!(receive(&mut wire, SOON).unwrap().target, path);
    }
}

#[test]
fn who_does_not_read_is_not_waited_for() {
    let (_client, wire) = pair();
    let sent = wire.send(&vec![0; 16 << 20], &[]);
    assert!(matches!(sent, Err(Fault::Late)), "{sent:?}");
}

#[test]
fn descriptors_come_with_their_request() {
    let (client, mut wire) = pair();
    let (kept, passed) = io::pipe().unwrap();
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let parts = [IoSlice::new(text)];
    send_piece(client.as_fd(), &parts, &[passed.as_fd()]).unwrap();
    send_piece(client.as_fd(), &parts, &[]).unwrap();
    drop(passed);
    let mut first = receive(&mut wire, SOON).unwrap();
    let passed: OwnedFd = first.fds.pop().unwrap();
    assert!(first.fds.is_empty());
    assert!(receive(&mut wire, SOON).unwrap().fds.is_empty());
    File::from(passed).write_all(b"x").unwrap();
    assert_eq!(io::BufReader::new(kept).bytes().count(), 1);
}

/// So many descriptors in each message are refused, and none of them is kept.
fn check_descriptors_are_let_go(messages: &[usize]) {
    let (client, mut wire) = pair();
    let (mut kept, passed) = io::pipe().unwrap();
    for count in messages {
        let fds = vec![passed.as_fd(); *count];
        send_piece(client.as_fd(), &[IoSlice::new(b"GET /")], &fds).unwrap();
    }
    drop(passed);
    assert!(matches!(
        receive(&mut wire, SOON),
        Err(Fault::Wrong(503, _))
    ));
    drop(wire);
    assert_eq!(kept.read(&mut [0]).unwrap(), 0, "nobody writes");
}

#[test]
fn a_client_cannot_fill_the_engine_with_descriptors() {
    check_descriptors_are_let_go(&[wire::MAX_FDS, wire::MAX_FDS]);
}

#[test]
fn more_descriptors_than_a_message_may_bring_are_closed() {
    check_descriptors_are_let_go(&[wire::MAX_FDS + 1]);
}

fn listening(test: &str) -> (PathBuf, Listener) {
    let directory = std::env::temp_dir().join(format!("pt-{test}-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let listener = Listener::open(&directory).unwrap();
    (directory, listener)
}

#[test]
fn nobody_talks_to_an_engine_of_another_user() {
    let (directory, _listener) = listening("trust");
    let own = nix::unistd::getuid().as_raw();
    assert!(Connection::open_as(&directory, own).is_ok());
    let error = Connection::open_as(&directory, own + 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn who_is_turned_away_is_told_why_whenever_it_asks() {
    let (directory, listener) = listening("refused");
    for size in [0, 1, 1 << 20] {
        let mut client = Connection::open(&directory).unwrap();
        let server = Wire::new(listener.accept().unwrap()).unwrap();
        let refusal = Response {
            status: 503,
            allow: None,
            body: serde_json::to_vec(&Invalid::new("", "not now")).ok(),
            fds: Vec::new(),
        };
        refusal.send(&server, true).unwrap();
        let turned = (size > 0).then(|| thread::spawn(move || server.turn_away(SOON)));
        let request = Request::Container {
            name: "x".repeat(size),
        };
        let (answer, _) = client.ask(&request, &[], SOON).unwrap().unwrap();
        assert_eq!(answer.unwrap_err().reason, "not now");
        drop(client);
        if let Some(turned) = turned {
            turned.join().unwrap();
        }
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_reply_brings_its_descriptors_and_an_end_is_noticed() {
    let (directory, listener) = listening("reply");
    let engine = thread::spawn(move || {
        let mut wire = Wire::new(listener.accept().unwrap()).unwrap();
        assert_eq!(receive(&mut wire, SOON).unwrap().target, "/v1/namespaces");
        let response = Response {
            status: 200,
            allow: None,
            body: Some(br#"{"unprivileged": false}"#.to_vec()),
            fds: vec![File::open("/proc/self/ns/net").unwrap().into()],
        };
        response.send(&wire, false).unwrap();
    });
    let mut client = Connection::open(&directory).unwrap();
    let (answer, fds) = client
        .ask(&Request::Namespaces, &[], SOON)
        .unwrap()
        .unwrap();
    assert!(answer.is_ok());
    assert_eq!(fds.len(), 1);
    engine.join().unwrap();
    let start = Instant::now();
    assert!(client.ask(&Request::Hello, &[], SOON).unwrap().is_none());
    assert!(start.elapsed() < SOON, "the end is noticed at once");
    std::fs::remove_dir_all(directory).unwrap();
}
