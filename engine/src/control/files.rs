//! Changes of a running container's `/etc/hosts` and `/etc/resolv.conf`.

use std::net::IpAddr;

/// `/etc/hosts` with one more address of the container's.
pub fn with_address(hosts: &str, address: IpAddr, names: &str) -> String {
    let end = if hosts.ends_with('\n') || hosts.is_empty() {
        ""
    } else {
        "\n"
    };
    format!("{hosts}{end}{address}\t{names}\n")
}

/// `/etc/hosts` without an address.
pub fn without_address(hosts: &str, address: IpAddr) -> String {
    let address = address.to_string();
    let is_other = |line: &&str| line.split_whitespace().next() != Some(&address);
    hosts.split_inclusive('\n').filter(is_other).collect()
}

/// `/etc/resolv.conf` whose name server on a gateway is the one on `gateway` now.
pub fn with_name_server(
    conf: &str,
    is_gateway: impl Fn(IpAddr) -> bool,
    gateway: IpAddr,
) -> String {
    let changed = |line: &str| {
        let mut words = line.split_whitespace();
        let server = match (words.next(), words.next()) {
            (Some("nameserver"), Some(address)) => address.parse().ok(),
            _ => None,
        };
        match server {
            Some(server) if is_gateway(server) => format!("nameserver {gateway}\n"),
            _ => line.to_owned(),
        }
    };
    conf.split_inclusive('\n').map(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_and_goes_and_other_lines_stay() {
        let before = "127.0.0.1\tlocalhost\n10.0.0.2\tc x\n10.0.0.20\tother";
        let address = IpAddr::from([10, 0, 1, 2]);
        let with = with_address(before, address, "c x");
        assert_eq!(with, format!("{before}\n10.0.1.2\tc x\n"));
        assert_eq!(without_address(&with, address), format!("{before}\n"));
        let left = without_address(before, [10, 0, 0, 2].into());
        assert_eq!(left, "127.0.0.1\tlocalhost\n10.0.0.20\tother");
    }

    #[test]
    fn only_a_name_server_on_a_gateway_is_replaced() {
        let conf = "nameserver 10.0.0.1\nsearch a.example\nnameserver 192.0.2.53\n";
        let is_gateway = |address| address == IpAddr::from([10, 0, 0, 1]);
        let changed = with_name_server(conf, is_gateway, [10, 0, 1, 1].into());
        assert_eq!(changed, conf.replace("10.0.0.1", "10.0.1.1"));
    }
}
