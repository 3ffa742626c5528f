//! Who holds a port of the host's, as far as this user may know it (proc_net(5), proc_pid_fd(5)).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::protocol::HostEndpoint;
use crate::control::publish::protocol_name;

/// State of a TCP socket that listens, in `/proc/net/tcp` (`TCP_LISTEN` of Linux `tcp_states.h`).
const LISTENS: &str = "0A";

/// Names the process that holds a port; `None` when this user may not see it.
pub(super) fn of(port: &HostEndpoint) -> Option<String> {
    let inodes = sockets_at(port);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let pid = pids.find(|pid| has_one_of(pid, &inodes))?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let command = command.trim_end().escape_default();
    Some(format!("process {pid} ({command})"))
}

/// Inodes of the sockets that stand in the way of a port.
fn sockets_at(port: &HostEndpoint) -> BTreeSet<String> {
    let protocol = protocol_name(port.protocol);
    let tables = [protocol.to_owned(), format!("{protocol}6")];
    let tables = tables.map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")));
    let lines: Vec<_> = tables.iter().flatten().flat_map(|t| t.lines()).collect();
    lines.iter().filter_map(|line| inode(line, port)).collect()
}

/// The inode of a socket of the kernel's table, if it stands in the way.
fn inode(line: &str, port: &HostEndpoint) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (address, number) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(number, 16).ok()? != port.address.port() {
        return None;
    }
    let idle = protocol_name(port.protocol) == "tcp" && *fields.get(3)? != LISTENS;
    let held = parse_address(address)?;
    let wanted = port.address.ip();
    let clash = held == *wanted || held.is_unspecified() || wanted.is_unspecified();
    (clash && !idle).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
}

/// An address as the kernel prints it: words of 32 bits in the machine's order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words = [word(0)?, word(8)?, word(16)?, word(24)?];
    let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
    let address = Ipv6Addr::from(bytes);
    Some(address.to_ipv4_mapped().map_or(address.into(), IpAddr::V4))
}

fn has_one_of(pid: &str, inodes: &BTreeSet<String>) -> bool {
    let files = fs::read_dir(Path::new("/proc").join(pid).join("fd"));
    files.into_iter().flatten().flatten().any(|file| {
        let target = fs::read_link(file.path()).unwrap_or_default();
        let name = target.to_string_lossy();
        let inode = name
            .strip_prefix("socket:[")
            .and_then(|n| n.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddrV4, TcpListener, UdpSocket};

    use pontoon_packet::parse::protocol;

    use super::*;

    fn port(address: Ipv4Addr, number: u16, protocol: u8) -> HostEndpoint {
        HostEndpoint {
            address: SocketAddrV4::new(address, number),
            protocol,
        }
    }

    #[test]
    fn a_process_of_this_user_is_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = format!("process {} (", std::process::id());
        let (tcp, udp) = (
            tcp.local_addr().unwrap().port(),
            udp.local_addr().unwrap().port(),
        );
        for wanted in [
            port(Ipv4Addr::LOCALHOST, tcp, protocol::TCP),
            port(Ipv4Addr::UNSPECIFIED, tcp, protocol::TCP),
            port(Ipv4Addr::UNSPECIFIED, udp, protocol::UDP),
        ] {
            let holder = of(&wanted).unwrap();
            assert!(holder.starts_with(&own), "{wanted:?}: {holder}");
        }
    }

    #[test]
    fn who_stands_in_nobodys_way_is_not_named() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = other.local_addr().unwrap().port();
        let holder = of(&port(Ipv4Addr::new(127, 0, 0, 2), number, protocol::TCP));
        assert_eq!(holder, None);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let four = word([192, 0, 2, 1]);
        assert_eq!(
            parse_address(&four),
            Some(Ipv4Addr::new(192, 0, 2, 1).into())
        );
        let zero = word([0; 4]);
        let mapped = [zero.clone(), zero.clone(), word([0, 0, 255, 255]), four].concat();
        assert_eq!(
            parse_address(&mapped),
            Some(Ipv4Addr::new(192, 0, 2, 1).into())
        );
        assert!(parse_address(&zero.repeat(4)).unwrap().is_unspecified());
    }
}
