//! The shield of an uplink: keeps the kernel from answering for flows that are translated.
//!
//! The engine and the kernel hear the same frames of an uplink. For a segment of a masqueraded flow the
//! kernel has no socket, and would answer with a reset or *port unreachable*. The shield is a table of
//! nf_tables in the uplink's namespace with two rules for each address and protocol:
//!
//! ```text
//! iif IFACE  ip daddr ADDRESS  meta l4proto P  socket exists → accept
//! iif IFACE  ip daddr ADDRESS  meta l4proto P                → drop
//! ```
//!
//! Connections and listeners of the host on the same interface go on working. What the shield cannot
//! tell apart is a reply to a translated flow whose external port is one that the host listens on.
//!
//! The table has the *owner* flag: it belongs to the netlink socket that made it and vanishes with it,
//! however its process ends. Reference: `include/uapi/linux/netfilter/nf_tables.h`.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::netlink::attribute;

/// Holds the table.
pub(crate) struct Shield {
    /// The table lives as long as this socket.
    _owner: Socket,
}

impl Shield {
    /// Raises the shield for the IPv4 addresses of an interface. `name` tells it apart from the others of
    /// the network namespace: its table is `pontoon-NAME`.
    ///
    /// # Errors
    /// nf_tables is missing, or there is no right to it.
    pub(crate) fn raise(name: &str, ifindex: u32, addresses: &[IpNet]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let table = format!("pontoon-{name}");
        let mut batch = Batch::default();
        batch.message(NFNL_MSG_BATCH_BEGIN, 0, 0, &[]);
        batch.table(&table);
        batch.chain(&table);
        for address in addresses.iter().map(IpNet::addr) {
            if let IpAddr::V4(v4) = address {
                for protocol in [libc::IPPROTO_TCP as u8, libc::IPPROTO_UDP as u8] {
                    let matches = to_address(ifindex, v4.octets(), protocol);
                    let claimed = [&matches[..], &[socket_exists(), verdict(NF_ACCEPT)]].concat();
                    batch.rule(&table, &claimed);
                    batch.rule(&table, &[&matches[..], &[verdict(NF_DROP)]].concat());
                }
            }
        }
        batch.message(NFNL_MSG_BATCH_END, 0, 0, &[]);
        socket.send(&batch.bytes, 0)?;
        acknowledged(&socket, batch.expected)?;
        Ok(Self { _owner: socket })
    }
}

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u16 = NFNL_SUBSYS_NFTABLES << 8;
const NFT_MSG_NEWCHAIN: u16 = NFNL_SUBSYS_NFTABLES << 8 | 3;
const NFT_MSG_NEWRULE: u16 = NFNL_SUBSYS_NFTABLES << 8 | 6;
const NFPROTO_INET: u8 = 1;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NESTED: u16 = 1 << 15;
const NFT_TABLE_F_OWNER: u32 = 2;
/// Registers of 32 bits; one is enough for everything compared here.
const NFT_REG32_00: u32 = 8;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Messages of one transaction.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
    /// Acknowledgements to come.
    expected: usize,
}

impl Batch {
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

    fn table(&mut self, name: &str) {
        const NAME: u16 = 1;
        const FLAGS: u16 = 2;
        let attributes = [text(NAME, name), number(FLAGS, NFT_TABLE_F_OWNER)].concat();
        self.message(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE | NLM_F_ACK,
            NFPROTO_INET,
            &attributes,
        );
    }

    /// A base chain at *input*, in front of every filter. The kernel has routed the packet to itself
    /// by then and would look for a socket next.
    fn chain(&mut self, table: &str) {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        const HOOK: u16 = 4;
        const TYPE: u16 = 7;
        const HOOK_NUMBER: u16 = 1;
        const HOOK_PRIORITY: u16 = 2;
        /// `NF_IP_PRI_RAW`.
        const PRIORITY: i32 = -300;
        let hook = [
            number(HOOK_NUMBER, NF_INET_LOCAL_IN),
            attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes()),
        ]
        .concat();
        let attributes = [
            text(TABLE, table),
            text(NAME, "input"),
            attribute(HOOK | NESTED, &hook),
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

    fn rule(&mut self, table: &str, expressions: &[Vec<u8>]) {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        const ELEMENT: u16 = 1;
        let list: Vec<u8> = expressions
            .iter()
            .flat_map(|e| attribute(ELEMENT | NESTED, e))
            .collect();
        let attributes = [
            text(TABLE, table),
            text(CHAIN, "input"),
            attribute(EXPRESSIONS | NESTED, &list),
        ]
        .concat();
        let flags = NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK;
        self.message(NFT_MSG_NEWRULE, flags, NFPROTO_INET, &attributes);
    }
}

/// `iif … meta nfproto ipv4 ip daddr … meta l4proto …`
fn to_address(ifindex: u32, address: [u8; 4], protocol: u8) -> Vec<Vec<u8>> {
    const META_IIF: u32 = 4;
    const META_NFPROTO: u32 = 15;
    const META_L4PROTO: u32 = 16;
    const IPV4_DESTINATION: (u32, u32) = (16, 4);
    vec![
        meta(META_IIF),
        equals(&ifindex.to_ne_bytes()),
        meta(META_NFPROTO),
        equals(&[libc::NFPROTO_IPV4 as u8]),
        payload(IPV4_DESTINATION),
        equals(&address),
        meta(META_L4PROTO),
        equals(&[protocol]),
    ]
}

/// Goes on with the rule only when the kernel finds a socket for the packet. The value that is stored
/// (whether it is transparent) does not matter; unlike the others it exists for sockets that are only
/// opening or closing, too.
fn socket_exists() -> Vec<u8> {
    const KEY: u16 = 1;
    const DREG: u16 = 2;
    const TRANSPARENT: u32 = 0;
    expression(
        "socket",
        &[number(KEY, TRANSPARENT), number(DREG, NFT_REG32_00)].concat(),
    )
}

fn meta(key: u32) -> Vec<u8> {
    const DREG: u16 = 1;
    const KEY: u16 = 2;
    expression(
        "meta",
        &[number(DREG, NFT_REG32_00), number(KEY, key)].concat(),
    )
}

fn payload((offset, length): (u32, u32)) -> Vec<u8> {
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

fn equals(value: &[u8]) -> Vec<u8> {
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

fn verdict(code: u32) -> Vec<u8> {
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
fn acknowledged(socket: &Socket, mut expected: usize) -> io::Result<()> {
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
