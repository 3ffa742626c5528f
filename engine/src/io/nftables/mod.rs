//! nf_tables: tables, chains, rules and maps in transactions, without running `nft`.
//!
//! What is said here is what the shield of an uplink and the carrier of flows need. The crates for it know
//! neither registers to choose from, nor maps with data, nor `fwd` (looked at: rustables 0.8, nf_tables 0.1).
//! Reference: `include/uapi/linux/netfilter/nf_tables.h`.

mod batch;
pub(super) mod expression;
#[cfg(test)]
pub(super) mod stand_in;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::netlink::attribute;
pub(super) use batch::{Batch, ChainHook, Family, Map};

/// A netlink attribute that holds others.
pub(super) const NESTED: u16 = 1 << 15;

/// A socket that speaks to the nf_tables of the network namespace in which it was opened.
pub(super) struct Tables {
    socket: Socket,
    /// Number of the next message: what is late is told apart.
    next: u32,
    /// What is received.
    buffer: Vec<u8>,
}

/// Bytes of the longest datagram. A refusal repeats what it refuses; of a listing the kernel sends half as many.
const LONGEST: usize = 1 << 16;

/// How long the kernel may take to answer: nobody waits for ever for what it keeps to itself.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

impl Tables {
    /// Opens one in the current namespace.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or no descriptor is free.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self::new(socket))
    }

    /// Takes over one that was opened elsewhere.
    #[allow(unsafe_code, reason = "netlink-sys takes raw descriptors only")]
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        // SAFETY: the descriptor is open, and nobody else has it any more.
        Self::new(unsafe { Socket::from_raw_fd(fd.into_raw_fd()) })
    }

    fn new(socket: Socket) -> Self {
        // It waits a little longer when it cannot be told.
        let _ = setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE);
        Self {
            socket,
            next: 1,
            buffer: vec![0; LONGEST],
        }
    }

    /// The socket, to be sent to another process.
    #[allow(unsafe_code, reason = "netlink-sys gives raw descriptors only")]
    pub(super) fn into_fd(self) -> OwnedFd {
        // SAFETY: the descriptor is open, and nobody else has it any more.
        unsafe { OwnedFd::from_raw_fd(self.socket.into_raw_fd()) }
    }

    /// Does everything in the batch, or nothing.
    ///
    /// # Errors
    /// The first refusal, or the socket's own.
    pub(super) fn commit(&mut self, batch: Batch) -> io::Result<()> {
        let (bytes, numbers) = batch.end(self.next);
        self.next = numbers.end;
        self.socket.send(&bytes, 0)?;
        self.acknowledged(numbers)
    }

    /// Waits until every message that asks for it is acknowledged; the first refusal is the answer. One of the whole
    /// batch bears the number of its beginning, and nothing else is said then.
    fn acknowledged(&mut self, numbers: Range<u32>) -> io::Result<()> {
        // Neither of the two that enclose a batch is acknowledged.
        let mut waiting = numbers.len().saturating_sub(2);
        while waiting > 0 {
            let bytes = self.receive(0)?;
            let said = messages(bytes).filter(|m| m.kind == NLMSG_ERROR);
            let said = said.filter(|m| numbers.contains(&m.number));
            let (count, outcome) = said.fold((0, Ok(())), |(count, outcome), message| {
                (count + 1, outcome.and(refused(message.body)))
            });
            if let Err(refusal) = outcome {
                // The kernel has said everything before a message was sent.
                while self.receive(libc::MSG_DONTWAIT).is_ok() {}
                return Err(refusal);
            }
            waiting = waiting.saturating_sub(count);
        }
        Ok(())
    }

    fn receive(&mut self, flags: libc::c_int) -> io::Result<&[u8]> {
        let length = self.socket.recv(&mut &mut self.buffer[..], flags)?;
        Ok(&self.buffer[..length])
    }

    /// Some elements of a map, as far as they are there, with bytes and packets that their counters have seen; the
    /// kernel tells no more after one that is not.
    ///
    /// # Errors
    /// There is no such map.
    pub(super) fn some_elements(
        &mut self,
        family: Family,
        table: &str,
        map: &str,
        keys: &[Vec<u8>],
    ) -> io::Result<Vec<Element>> {
        /// As many answers as a socket's buffer has room for in any case.
        const AT_ONCE: usize = 16;
        let mut elements = Vec::new();
        for some in keys.chunks(AT_ONCE) {
            let number = self.number();
            let keys = some.iter().map(|key| &key[..]);
            let message = batch::look_up(number, family, table, map, keys);
            elements.extend(self.listing(number, &message)?);
        }
        Ok(elements)
    }

    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        number
    }

    fn listing(&mut self, number: u32, message: &[u8]) -> io::Result<Vec<Element>> {
        self.socket.send(message, 0)?;
        let mut elements = Vec::new();
        loop {
            let bytes = self.receive(0)?;
            for message in messages(bytes).filter(|m| m.number == number) {
                match message.kind {
                    NLMSG_DONE => return Ok(elements),
                    NLMSG_ERROR => return refused(message.body).map(|()| elements),
                    _ => elements.extend(listed(message.body)),
                }
            }
        }
    }
}

/// An element of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// What is looked up.
    pub(super) key: Vec<u8>,
    /// Packets that have found it; a super-frame is one.
    pub(super) packets: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A message.
struct Message<'a> {
    kind: u16,
    /// Of the request that it answers.
    number: u32,
    body: &'a [u8],
}

/// The messages in a datagram.
fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<16>()?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (length, number) = (word(0) as usize, word(8));
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body = rest.get(16..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, number, body })
    })
}

fn refused(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Attributes one after the other; flags of their kinds are left out.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const KIND: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// The elements in a message that lists some.
fn listed(body: &[u8]) -> Vec<Element> {
    const FAMILY_AND_RESOURCE: usize = 4;
    const ELEMENTS: u16 = 3;
    let list = body.get(FAMILY_AND_RESOURCE..);
    let list = list.and_then(|body| find(body, ELEMENTS));
    let elements = attributes(list.unwrap_or_default());
    elements.filter_map(|(_, one)| element(one)).collect()
}

fn element(bytes: &[u8]) -> Option<Element> {
    const KEY: u16 = 1;
    const EXPRESSION: u16 = 7;
    const VALUE: u16 = 1;
    const EXPRESSION_DATA: u16 = 2;
    const BYTES: u16 = 1;
    const PACKETS: u16 = 2;
    let counter = find(bytes, EXPRESSION).and_then(|e| find(e, EXPRESSION_DATA));
    let count = |kind| {
        let value = find(counter?, kind)?.first_chunk()?;
        Some(u64::from_be_bytes(*value))
    };
    Some(Element {
        key: find(find(bytes, KEY)?, VALUE)?.to_vec(),
        packets: count(PACKETS).unwrap_or(0),
        bytes: count(BYTES).unwrap_or(0),
    })
}

pub(super) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

pub(super) fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}
