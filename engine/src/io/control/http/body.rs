//! Bodies (RFC 9112 §6, §7).

use std::time::Instant;

use super::MAX_HEAD;
use super::wire::{Fault, Wire};

/// Where a message's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With an empty chunk.
    Chunked,
}

const TOO_LARGE: Fault = Fault::Wrong(413, "the body is too large");
const MALFORMED: Fault = Fault::Wrong(400, "the chunks of the body cannot be understood");

/// Reads a body of at most `limit` bytes.
pub(super) fn read(
    wire: &mut Wire,
    framing: Framing,
    limit: usize,
    until: Instant,
) -> Result<Vec<u8>, Fault> {
    match framing {
        Framing::Length(length) if length > limit => Err(TOO_LARGE),
        Framing::Length(length) => exactly(wire, length, until),
        Framing::Chunked => {
            let mut body = Vec::new();
            while let Some(chunk) = read_chunk(wire, limit - body.len(), until)? {
                body.extend(chunk);
            }
            Ok(body)
        }
    }
}

/// Reads the next chunk, of at most `limit` bytes; `None` when it is the last.
pub(super) fn read_chunk(
    wire: &mut Wire,
    limit: usize,
    until: Instant,
) -> Result<Option<Vec<u8>>, Fault> {
    let size = loop {
        match httparse::parse_chunk_size(wire.unread()).map_err(|_| MALFORMED)? {
            httparse::Status::Complete((length, size)) => {
                wire.consume(length);
                break usize::try_from(size).map_err(|_| TOO_LARGE)?;
            }
            httparse::Status::Partial => more(wire, until)?,
        }
    };
    match size {
        0 => skip_trailers(wire, until).map(|()| None),
        _ if size > limit => Err(TOO_LARGE),
        _ => {
            let chunk = exactly(wire, size, until)?;
            match exactly(wire, 2, until)?.as_slice() {
                b"\r\n" => Ok(Some(chunk)),
                _ => Err(MALFORMED),
            }
        }
    }
}

fn exactly(wire: &mut Wire, length: usize, until: Instant) -> Result<Vec<u8>, Fault> {
    while wire.unread().len() < length {
        wire.fill(until)?;
    }
    Ok(wire.consume(length))
}

/// Fields that follow the last chunk say nothing that anybody asks for here.
fn skip_trailers(wire: &mut Wire, until: Instant) -> Result<(), Fault> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; super::MAX_FIELDS];
        match httparse::parse_headers(wire.unread(), &mut fields).map_err(|_| MALFORMED)? {
            httparse::Status::Complete((length, _)) => {
                wire.consume(length);
                return Ok(());
            }
            httparse::Status::Partial => more(wire, until)?,
        }
    }
}

/// Waits for the rest of a line.
fn more(wire: &mut Wire, until: Instant) -> Result<(), Fault> {
    if wire.unread().len() >= MAX_HEAD {
        return Err(MALFORMED);
    }
    wire.fill(until)
}
