//! What rules are made of.
//!
//! Values lie in sixteen registers of four bytes each. One that is longer takes those that follow, too.

use super::{NESTED, attribute, number, text};

/// A register, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) struct Register(pub(in crate::io) u8);

impl Register {
    fn attribute(self, kind: u16) -> Vec<u8> {
        /// `NFT_REG32_00`.
        const FIRST: u32 = 8;
        number(kind, FIRST + u32::from(self.0))
    }
}

/// The first register.
pub(in crate::io) const FIRST: Register = Register(0);

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Meta {
    /// Index of the interface by which it came, in the machine's byte order.
    Interface = 4,
    /// Family of the network layer: one byte.
    NetworkProtocol = 15,
    /// IP protocol: one byte.
    Protocol = 16,
}

/// Where offsets are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Header {
    /// Ethernet. A tag that the kernel has taken out is seen where it was.
    Link = 0,
    /// IP.
    Network = 1,
    /// TCP or UDP.
    Transport = 2,
}

/// Bytes of a packet.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Bytes(
    pub(in crate::io) Header,
    /// Offset.
    pub(in crate::io) u32,
    /// Length.
    pub(in crate::io) u32,
);

/// What must be put right when bytes are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Checksum {
    /// Nothing.
    None,
    /// The sum at this offset of the same header.
    At(u32),
    /// The transport's sum, which covers the addresses.
    Transport,
    /// Both.
    AtAndTransport(u32),
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Comparison {
    /// The rule goes on if they are equal.
    Equal = 0,
    /// It goes on if they are not.
    Different = 1,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::io) enum Verdict<'a> {
    /// It ends.
    Drop,
    /// It goes on as without rules.
    Accept,
    /// The rules of that chain decide, unless they return.
    Jump(&'a str),
    /// The chain that jumped here goes on.
    Return,
}

pub(in crate::io) fn meta(what: Meta, to: Register) -> Vec<u8> {
    const TO: u16 = 1;
    const KEY: u16 = 2;
    expression(
        "meta",
        &[to.attribute(TO), number(KEY, what as u32)].concat(),
    )
}

pub(in crate::io) fn load(bytes: Bytes, to: Register) -> Vec<u8> {
    const TO: u16 = 1;
    expression("payload", &[to.attribute(TO), bytes.attributes()].concat())
}

pub(in crate::io) fn store(bytes: Bytes, from: Register, checksum: Checksum) -> Vec<u8> {
    const FROM: u16 = 5;
    const KIND: u16 = 6;
    const OFFSET: u16 = 7;
    const FLAGS: u16 = 8;
    const INTERNET: u32 = 1;
    const PSEUDO_HEADER: u32 = 1;
    let (kind, offset, flags) = match checksum {
        Checksum::None => (0, 0, 0),
        Checksum::At(offset) => (INTERNET, offset, 0),
        Checksum::Transport => (0, 0, PSEUDO_HEADER),
        Checksum::AtAndTransport(offset) => (INTERNET, offset, PSEUDO_HEADER),
    };
    let data = [
        bytes.attributes(),
        from.attribute(FROM),
        number(KIND, kind),
        number(OFFSET, offset),
        number(FLAGS, flags),
    ];
    expression("payload", &data.concat())
}

impl Bytes {
    fn attributes(self) -> Vec<u8> {
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        let Self(header, offset, length) = self;
        let header = number(BASE, header as u32);
        [header, number(OFFSET, offset), number(LENGTH, length)].concat()
    }
}

pub(in crate::io) fn compare(what: Register, how: Comparison, with: &[u8]) -> Vec<u8> {
    const FROM: u16 = 1;
    const OPERATION: u16 = 2;
    const DATA: u16 = 3;
    let data = [
        what.attribute(FROM),
        number(OPERATION, how as u32),
        attribute(DATA | NESTED, &value(with)),
    ];
    expression("cmp", &data.concat())
}

/// Puts bytes into registers.
pub(in crate::io) fn set(to: Register, bytes: &[u8]) -> Vec<u8> {
    const TO: u16 = 1;
    const DATA: u16 = 2;
    let data = [to.attribute(TO), attribute(DATA | NESTED, &value(bytes))];
    expression("immediate", &data.concat())
}

/// Keeps the bits of a register that the mask has.
pub(in crate::io) fn mask(register: Register, mask: &[u8]) -> Vec<u8> {
    const FROM: u16 = 1;
    const TO: u16 = 2;
    const LENGTH: u16 = 3;
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    let data = [
        register.attribute(FROM),
        register.attribute(TO),
        number(LENGTH, mask.len() as u32),
        attribute(MASK | NESTED, &value(mask)),
        attribute(XOR | NESTED, &value(&vec![0; mask.len()])),
    ];
    expression("bitwise", &data.concat())
}

/// Looks a key up; the rule goes on with the data that was found.
pub(in crate::io) fn lookup(map: &str, key: Register, data: Register) -> Vec<u8> {
    const SET: u16 = 1;
    const FROM: u16 = 2;
    const TO: u16 = 3;
    let parts = [text(SET, map), key.attribute(FROM), data.attribute(TO)];
    expression("lookup", &parts.concat())
}

/// Sends the packet out of the interface whose index is in the register.
pub(in crate::io) fn forward(interface: Register) -> Vec<u8> {
    const INTERFACE: u16 = 1;
    expression("fwd", &interface.attribute(INTERFACE))
}

/// Goes on with the rule only when the kernel finds a socket for the packet. The value that is stored
/// (whether it is transparent) does not matter; unlike the others it exists for sockets that are only
/// opening or closing, too.
pub(in crate::io) fn socket_exists() -> Vec<u8> {
    const KEY: u16 = 1;
    const TO: u16 = 2;
    const TRANSPARENT: u32 = 0;
    expression(
        "socket",
        &[number(KEY, TRANSPARENT), FIRST.attribute(TO)].concat(),
    )
}

pub(in crate::io) fn counter() -> Vec<u8> {
    expression("counter", &[])
}

pub(in crate::io) fn verdict(verdict: Verdict<'_>) -> Vec<u8> {
    const TO: u16 = 1;
    const DATA: u16 = 2;
    const DATA_VERDICT: u16 = 2;
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    const NF_DROP: u32 = 0;
    const NF_ACCEPT: u32 = 1;
    /// `NFT_JUMP`.
    const JUMP: u32 = -3_i32 as u32;
    /// `NFT_RETURN`.
    const RETURN: u32 = -5_i32 as u32;
    /// `NFT_REG_VERDICT`.
    const VERDICT_REGISTER: u32 = 0;
    let code = match verdict {
        Verdict::Drop => number(CODE, NF_DROP),
        Verdict::Accept => number(CODE, NF_ACCEPT),
        Verdict::Return => number(CODE, RETURN),
        Verdict::Jump(chain) => [number(CODE, JUMP), text(CHAIN, chain)].concat(),
    };
    let data = attribute(DATA | NESTED, &attribute(DATA_VERDICT | NESTED, &code));
    expression("immediate", &[number(TO, VERDICT_REGISTER), data].concat())
}

fn value(bytes: &[u8]) -> Vec<u8> {
    const VALUE: u16 = 1;
    attribute(VALUE, bytes)
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    [text(NAME, name), attribute(DATA | NESTED, data)].concat()
}
