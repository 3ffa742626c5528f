//! `/etc/resolv.conf`: the host's to be read, the container's to be written.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The port of every upstream (RFC 1035 §4.2).
const PORT: u16 = 53;
/// How many name servers are used: glibc's `MAXNS`.
const MAX_NAME_SERVERS: usize = 3;
/// glibc's `RES_MAXNDOTS`.
const MAX_NDOTS: u64 = 15;

/// What a `resolv.conf` says (resolv.conf(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Whom to ask, in that order. Loopback addresses are kept: they mean who reads the file.
    pub name_servers: Vec<SocketAddr>,
    /// The domains that are tried behind a short name.
    pub search: Vec<String>,
    /// Options as they stand there, `ndots:2` for one.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// What `text` says, read as glibc reads it: a keyword counts at the begin of a line, the last
    /// `search` or `domain` counts, the first three name servers count, options add up, and what
    /// cannot be understood is passed over. `scope` finds the number of an interface by name, for
    /// `fe80::1%eth0`.
    pub fn parse(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let Some((keyword, rest)) = line.split_once([' ', '\t']) else {
                continue;
            };
            let mut words = rest.split_ascii_whitespace().map(str::to_owned);
            match keyword {
                "nameserver" if conf.name_servers.len() < MAX_NAME_SERVERS => {
                    let addr = words.next().and_then(|word| name_server(&word, &scope));
                    conf.name_servers.extend(addr);
                }
                "domain" => conf.search = words.take(1).collect(),
                "search" => conf.search = words.collect(),
                "options" => conf.options.extend(words),
                _ => {}
            }
        }
        conf.search.retain(|domain| domain != ".");
        conf
    }

    /// The name servers, or the machine's own if there is none, as resolv.conf(5) has it.
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        if self.name_servers.is_empty() {
            return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))];
        }
        self.name_servers.clone()
    }

    /// How many dots a name must have to be tried as it stands before the search domains: 1 unless
    /// the last `ndots` option says otherwise.
    pub fn ndots(&self) -> u8 {
        let last = self.options.iter().rev();
        let mut values = last.filter_map(|option| option.strip_prefix("ndots:"));
        match values.next() {
            Some(value) => value
                .parse()
                .map_or(0, |dots: u64| dots.min(MAX_NDOTS) as u8),
            None => 1,
        }
    }

    /// The file of a container that asks `gateways`: the host's search domains and options unless it
    /// has its own. A short name is tried as it stands first (`ndots:0`, as in Docker), or no query
    /// for a container would come without a search domain behind it.
    pub fn for_container(
        &self,
        gateways: &[IpAddr],
        search: Option<&[String]>,
        options: Option<&[String]>,
    ) -> Self {
        let mut search = search.unwrap_or(&self.search).to_vec();
        search.retain(|domain| domain != ".");
        let mut options = options.unwrap_or(&self.options).to_vec();
        if !options.iter().any(|option| option.starts_with("ndots:")) {
            options.push("ndots:0".into());
        }
        let name_servers = gateways.iter().map(|addr| SocketAddr::new(*addr, PORT));
        Self {
            name_servers: name_servers.collect(),
            search,
            options,
        }
    }
}

impl fmt::Display for ResolvConf {
    /// The file. A port is not written: the format has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.name_servers {
            match server {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                    writeln!(f, "nameserver {}%{}", v6.ip(), v6.scope_id())?;
                }
                _ => writeln!(f, "nameserver {}", server.ip())?,
            }
        }
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                writeln!(f, "{keyword} {}", words.join(" "))?;
            }
        }
        Ok(())
    }
}

fn name_server(word: &str, scope: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Some(v4) = ipv4(word) {
        return Some(SocketAddr::from((v4, PORT)));
    }
    let (addr, zone) = word.split_once('%').unwrap_or((word, "0"));
    let addr: Ipv6Addr = addr.parse().ok()?;
    let scope_id = zone.parse().ok().or_else(|| scope(zone))?;
    Some(SocketAddrV6::new(addr, PORT, 0, scope_id).into())
}

/// An address as `inet_aton` takes it: one to four numbers, decimal, octal or hexadecimal, the last
/// of which fills what is left.
fn ipv4(word: &str) -> Option<Ipv4Addr> {
    let parts = word.split('.').map(number).collect::<Option<Vec<u32>>>()?;
    let (last, leading) = parts.split_last()?;
    let left = 32_u32.checked_sub(8 * leading.len() as u32)?;
    if left == 0 || u64::from(*last) >> left != 0 || leading.iter().any(|part| *part > 255) {
        return None;
    }
    let high = leading
        .iter()
        .fold(0_u64, |sum, part| sum << 8 | u64::from(*part));
    Some(Ipv4Addr::from((high << left) as u32 | last))
}

/// A number as `strtoul` takes it, without a sign.
fn number(word: &str) -> Option<u32> {
    let (digits, radix) = match word.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&word[2..], 16),
        [b'0', _, ..] => (&word[1..], 8),
        _ => (word, 10),
    };
    let unsigned = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(digits, radix).ok().filter(|_| unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, |name| (name == "eth0").then_some(2))
    }

    fn servers(text: &str) -> Vec<String> {
        let servers = parse(text).name_servers;
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordinary_file() {
        let conf = parse(
            "# made by somebody\n; and commented\nnameserver 127.0.0.53\noptions edns0 trust-ad\n\
             options ndots:3\nsearch lan example.org\n",
        );

        assert_eq!(conf.name_servers, ["127.0.0.53:53".parse().unwrap()]);
        assert_eq!(conf.search, ["lan", "example.org"]);
        assert_eq!(conf.options, ["edns0", "trust-ad", "ndots:3"]);
        assert_eq!(conf.ndots(), 3);
    }

    #[test]
    fn the_first_three_servers_that_can_be_understood() {
        let text = "nameserver\nnameserver nonsense\nnameserver 1.1.1.1 # one\r\n\
                    nameserver\t 10.1\n nameserver 8.8.8.8\nnameservers 8.8.4.4\n\
                    nameserver 0x7f.1\nnameserver 9.9.9.9";

        assert_eq!(servers(text), ["1.1.1.1:53", "10.0.0.1:53", "127.0.0.1:53"]);
    }

    #[test]
    fn addresses_as_inet_aton_takes_them() {
        for (word, addr) in [
            ("1.2.3.4", Some([1, 2, 3, 4])),
            ("010.0.0.1", Some([8, 0, 0, 1])),
            ("1.65535", Some([1, 0, 255, 255])),
            ("0xc0a80001", Some([192, 168, 0, 1])),
            ("1.2.3.256", None),
            ("256.1", None),
            ("1.2.3.4.5", None),
            ("1.2.3.4.5.6", None),
            ("1..2", None),
            ("+1.2.3.4", None),
            ("08.1.1.1", None),
            ("0x.1", None),
            ("", None),
        ] {
            assert_eq!(ipv4(word), addr.map(Ipv4Addr::from), "{word}");
        }
    }

    #[test]
    fn link_local_servers_have_a_scope() {
        let text = "nameserver fe80::1%eth0\nnameserver fe80::2%7\nnameserver fe80::3%none\n\
                    nameserver 2001:db8::1";

        assert_eq!(
            servers(text),
            ["[fe80::1%2]:53", "[fe80::2%7]:53", "[2001:db8::1]:53"]
        );
    }

    #[test]
    fn the_last_search_or_domain_counts() {
        assert_eq!(parse("search a b\ndomain c d\n").search, ["c"]);
        assert_eq!(parse("domain c\nsearch a b\n").search, ["a", "b"]);
        assert!(parse("search a\nsearch .\n").search.is_empty());
    }

    #[test]
    fn without_a_server_the_machine_itself_is_asked() {
        assert_eq!(parse("").upstreams(), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn ndots_is_one_to_begin_with_and_fifteen_at_most() {
        assert_eq!(parse("").ndots(), 1);
        assert_eq!(parse("options ndots:2 ndots:0").ndots(), 0);
        assert_eq!(parse("options ndots:999").ndots(), 15);
        assert_eq!(parse("options ndots:many").ndots(), 0);
    }

    #[test]
    fn a_container_asks_the_gateway() {
        let host = parse("nameserver 127.0.0.53\nsearch lan\noptions edns0\n");
        let gateway = ["172.18.0.1".parse().unwrap()];

        let file = host.for_container(&gateway, None, None).to_string();

        assert_eq!(
            file,
            "nameserver 172.18.0.1\nsearch lan\noptions edns0 ndots:0\n"
        );
    }

    #[test]
    fn a_container_has_its_own_search_domains_and_options() {
        let host = parse("search lan\noptions edns0\n");
        let gateway = ["fe80::1".parse().unwrap()];
        let (search, options) = (["a.example".to_owned()], ["ndots:2".to_owned()]);

        let file = host.for_container(&gateway, Some(&search), Some(&options));
        let none = host.for_container(&gateway, Some(&[".".to_owned()]), None);

        assert_eq!(
            file.to_string(),
            "nameserver fe80::1\nsearch a.example\noptions ndots:2\n"
        );
        assert!(none.search.is_empty());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let conf = parse("nameserver fe80::1%eth0\nnameserver 1.1.1.1\nsearch a b\noptions x y\n");

        assert_eq!(parse(&conf.to_string()), conf);
    }
}
