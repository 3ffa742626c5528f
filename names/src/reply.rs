//! Writing answers.

use core::net::IpAddr;

use hickory_proto::op::{Edns, Message, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};

use crate::Transport;
use crate::message::{Query, response_header};

/// Seconds that a container's name may be kept by who asked for it; Docker's.
pub const TTL: u32 = 600;
/// Bytes of the longest answer in a datagram, whatever the client announces: it crosses every link
/// in one piece.
pub const MAX_UDP_ANSWER: u16 = 1232;

/// Bytes that every client takes in a datagram (RFC 1035 §4.2.1).
const MIN_UDP_ANSWER: u16 = 512;
/// Bytes of a record without name and data (RFC 1035 §4.1.3).
const RECORD: usize = 10;
/// Bytes of a name that is a pointer to the question (RFC 1035 §4.1.4).
const POINTER: usize = 2;
/// How many records may count on a pointer: the encoder looks for 120 of them in a message.
const WITH_POINTER: usize = 100;

/// Bytes of the longest answer that `query` allows over `transport`.
pub(crate) fn limit(query: &Query, transport: Transport) -> usize {
    let announced = query
        .edns
        .as_ref()
        .map_or(MIN_UDP_ANSWER, Edns::max_payload);
    usize::from(match transport {
        Transport::Udp => announced.clamp(MIN_UDP_ANSWER, MAX_UDP_ANSWER),
        Transport::Tcp => u16::MAX,
    })
}

/// As many of `addrs` as fit into `limit` bytes; truncated if that is not all (RFC 2181 §9). None at
/// all is an answer too: the name is there, the type is not (RFC 2308 §2.2).
pub(crate) fn addresses(query: &Query, addrs: &[IpAddr], limit: usize) -> Vec<u8> {
    let mut message = response(query, ResponseCode::NoError);
    let mut room = limit.saturating_sub(encode(&message).len());
    for (index, addr) in addrs.iter().enumerate() {
        let (data, len) = match addr {
            IpAddr::V4(v4) => (RData::A(rdata::A(*v4)), 4),
            IpAddr::V6(v6) => (RData::AAAA(rdata::AAAA(*v6)), 16),
        };
        let name = if index < WITH_POINTER {
            POINTER
        } else {
            query.name_len()
        };
        let len = name + RECORD + len;
        if room < len {
            message.metadata.truncation = true;
            break;
        }
        room -= len;
        message.add_answer(record(query, data));
    }
    encode(&message)
}

/// The name of the address that was asked about.
pub(crate) fn pointer(query: &Query, name: &Name) -> Vec<u8> {
    let mut message = response(query, ResponseCode::NoError);
    if let RecordType::PTR | RecordType::ANY = query.question.query_type {
        message.add_answer(record(query, RData::PTR(rdata::PTR(name.clone()))));
    }
    encode(&message)
}

/// An error to a query that could be read.
pub(crate) fn error(query: &Query, code: ResponseCode) -> Vec<u8> {
    encode(&response(query, code))
}

/// An error to a query of which nothing but the header could be read.
pub(crate) fn bare_error(header: &Metadata, code: ResponseCode) -> Vec<u8> {
    let mut message = Message::error_msg(header.id, header.op_code, code);
    message.metadata.recursion_desired = header.recursion_desired;
    message.metadata.recursion_available = true;
    encode(&message)
}

/// What is left of an upstream's `answer` that is too long for the client: what kind it is, and that
/// it is to be asked for again over TCP.
pub(crate) fn truncated(query: &Query, answer: &[u8]) -> Vec<u8> {
    let mut message = response(query, ResponseCode::NoError);
    if let Some(header) = response_header(answer) {
        message.metadata = header;
    }
    message.metadata.id = query.header.id;
    message.metadata.truncation = true;
    encode(&message)
}

fn response(query: &Query, code: ResponseCode) -> Message {
    let mut message = Message::response(query.header.id, OpCode::Query);
    message.metadata = Metadata::response_from_request(&query.header);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_query(query.question.clone());
    // Whoever sends an OPT record gets one, with the DO bit as it was (RFC 6891 §6.1.1, RFC 3225 §3).
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_ANSWER);
        edns.set_dnssec_ok(asked.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

fn record(query: &Query, data: RData) -> Record {
    Record::from_rdata(query.question.name.clone(), TTL, data)
}

fn encode(message: &Message) -> Vec<u8> {
    message
        .to_vec()
        .expect("one question and as many records as fit into 64 KiB")
}
