//! nf_tables over netlink, as far as a shield needs it. Reference: `include/uapi/linux/netfilter/nf_tables.h`.

use std::io;

use netlink_sys::Socket;

use crate::io::netlink::attribute;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NFPROTO_INET: u8 = 1;
/// Where packets come in, before the kernel has looked where they go.
pub(super) const NF_INET_PRE_ROUTING: u32 = 0;
/// Where packets for the kernel itself come by.
pub(super) const NF_INET_LOCAL_IN: u32 = 1;
pub(super) const NF_DROP: u32 = 0;
pub(super) const NF_ACCEPT: u32 = 1;
const NESTED: u16 = 1 << 15;
const NFT_TABLE_F_OWNER: u32 = 2;
/// Registers of 32 bits; one is enough for everything compared here.
const NFT_REG32_00: u32 = 8;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Messages of one transaction, which makes a table.
#[derive(Default)]
pub(super) struct Batch {
    table: String,
    bytes: Vec<u8>,
    sequence: u32,
    /// Acknowledgements to come.
    expected: usize,
}

impl Batch {
    /// Begins with a table of this name.
    pub(super) fn begin(table: &str) -> Self {
        let mut batch = Self {
            table: table.to_owned(),
            ..Self::default()
        };
        batch.message(NFNL_MSG_BATCH_BEGIN, 0, 0, &[]);
        batch.table();
        batch
    }

    /// The messages, and how many acknowledgements they bring.
    pub(super) fn end(mut self) -> (Vec<u8>, usize) {
        self.message(NFNL_MSG_BATCH_END, 0, 0, &[]);
        (self.bytes, self.expected)
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, attributes: &[u8]) {
        self.sequence += 1;
        let resource: u16 = if kind == NFNL_MSG_BATCH_BEGIN || kind == NFNL_MSG_BATCH_END {
            NFNL_SUBSYS_NFTABLES
        } else {
            0
        };
        let length = (16 + 4 + attributes.len()) as u32;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(attributes);
        self.expected += usize::from(flags & NLM_F_ACK != 0);
    }

    fn table(&mut self) {
        const NAME: u16 = 1;
        const FLAGS: u16 = 2;
        let attributes = [text(NAME, &self.table), number(FLAGS, NFT_TABLE_F_OWNER)].concat();
        self.message(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE | NLM_F_ACK,
            NFPROTO_INET,
            &attributes,
        );
    }

    /// A base chain, in front of every filter.
    pub(super) fn chain(&mut self, name: &str, hook: u32) {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const TYPE: u16 = 7;
        const HOOK_NUMBER: u16 = 1;
        const HOOK_PRIORITY: u16 = 2;
        /// `NF_IP_PRI_RAW`.
        const PRIORITY: i32 = -300;
        let hook_attributes = [
            number(HOOK_NUMBER, hook),
            attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes()),
        ]
        .concat();
        let attributes = [
            text(TABLE, &self.table),
            text(NAME, name),
            attribute(HOOK | NESTED, &hook_attributes),
            text(TYPE, "filter"),
        ]
        .concat();
        self.message(
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE | NLM_F_ACK,
            NFPROTO_INET,
            &attributes,
        );
    }

    /// A rule at the end of a chain.
    pub(super) fn rule(&mut self, chain: &str, expressions: &[Vec<u8>]) {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        const ELEMENT: u16 = 1;
        let list: Vec<u8> = expressions
            .iter()
            .flat_map(|e| attribute(ELEMENT | NESTED, e))
            .collect();
        let attributes = [
            text(TABLE, &self.table),
            text(CHAIN, chain),
            attribute(EXPRESSIONS | NESTED, &list),
        ]
        .concat();
        let flags = NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK;
        self.message(NFT_MSG_NEWRULE, flags, NFPROTO_INET, &attributes);
    }
}

/// Goes on with the rule only when the kernel finds a socket for the packet. The value that is stored
/// (whether it is transparent) does not matter; unlike the others it exists for sockets that are only
/// opening or closing, too.
pub(super) fn socket_exists() -> Vec<u8> {
    const KEY: u16 = 1;
    const DREG: u16 = 2;
    const TRANSPARENT: u32 = 0;
    expression(
        "socket",
        &[number(KEY, TRANSPARENT), number(DREG, NFT_REG32_00)].concat(),
    )
}

pub(super) fn meta(key: u32) -> Vec<u8> {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    expression(
        "meta",
        &[number(DREG, NFT_REG32_00), number(KEY, key)].concat(),
    )
}

pub(super) fn payload((offset, length): (u32, u32)) -> Vec<u8> {
    const DREG: u16 = 1;
    const BASE: u16 = 2;
    const OFFSET: u16 = 3;
    const LENGTH: u16 = 4;
    const NETWORK_HEADER: u32 = 1;
    let data = [
        number(DREG, NFT_REG32_00),
        number(BASE, NETWORK_HEADER),
        number(OFFSET, offset),
        number(LENGTH, length),
    ];
    expression("payload", &data.concat())
}

pub(super) fn equals(value: &[u8]) -> Vec<u8> {
    const SREG: u16 = 1;
    const OPERATION: u16 = 2;
    const DATA: u16 = 3;
    const VALUE: u16 = 1;
    const EQUAL: u32 = 0;
    let data = [
        number(SREG, NFT_REG32_00),
        number(OPERATION, EQUAL),
        attribute(DATA | NESTED, &attribute(VALUE, value)),
    ];
    expression("cmp", &data.concat())
}

/// Leaves of what was loaded the bits of a mask.
pub(super) fn bitwise_and(mask: &[u8; 4]) -> Vec<u8> {
    const SREG: u16 = 1;
    const DREG: u16 = 2;
    const LENGTH: u16 = 3;
    const MASK: u16 = 4;
    const XOR: u16 = 5;
    const VALUE: u16 = 1;
    let value = |kind: u16, bytes: &[u8]| attribute(kind | NESTED, &attribute(VALUE, bytes));
    let data = [
        number(SREG, NFT_REG32_00),
        number(DREG, NFT_REG32_00),
        number(LENGTH, 4),
        value(MASK, mask),
        value(XOR, &[0; 4]),
    ];
    expression("bitwise", &data.concat())
}

pub(super) fn verdict(code: u32) -> Vec<u8> {
    const DREG: u16 = 1;
    const DATA: u16 = 2;
    const DATA_VERDICT: u16 = 2;
    const VERDICT_CODE: u16 = 1;
    const NFT_REG_VERDICT: u32 = 0;
    let data = [
        number(DREG, NFT_REG_VERDICT),
        attribute(
            DATA | NESTED,
            &attribute(DATA_VERDICT | NESTED, &number(VERDICT_CODE, code)),
        ),
    ];
    expression("immediate", &data.concat())
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    [text(NAME, name), attribute(DATA | NESTED, data)].concat()
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

/// Waits until every message is acknowledged; the first refusal is the answer.
pub(super) fn acknowledged(socket: &Socket, mut expected: usize) -> io::Result<()> {
    const NLMSG_ERROR: u16 = 2;
    while expected > 0 {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while let Some(header) = rest.first_chunk::<20>() {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let code = i32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
            if kind == NLMSG_ERROR && code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
            expected -= usize::from(kind == NLMSG_ERROR);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(())
}
