//! HTTP/1.1 (RFC 9110, RFC 9112) between the engine and its clients, as much of it as they need.
//!
//! `Wire` is a connection: bytes that have come and are not read yet, and descriptors that came
//! beside them (`SCM_RIGHTS`). A message's descriptors travel with its first bytes, so whoever passes
//! some waits for the answer before it asks again. `receive` and `respond` are the engine's side;
//! [`Connection`] is a client's. What one side accepts of the other is bounded in size, number and time.

mod body;
mod client;
mod head;
mod server;
mod wire;

pub use client::{Connection, Lines};
pub(super) use server::{Chunks, Received, Response, receive};
pub(super) use wire::{Fault, Wire};

use std::time::Duration;

/// Longest head of a message, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most header fields of a message.
const MAX_FIELDS: usize = 64;
/// Largest body of a request, in bytes.
const MAX_REQUEST: usize = 64 << 10;
/// Largest body of a reply, in bytes: a full connection table as JSON.
const MAX_REPLY: usize = 64 << 20;
/// How long one side may take to send a request once it has begun.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the other side may take nothing of what it is sent.
const STALL: Duration = Duration::from_secs(5);
/// How long it may take to read a whole message.
const READ: Duration = Duration::from_secs(60);

/// The words of a status (RFC 9110 §15).
const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests;
