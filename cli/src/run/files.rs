//! The files that a container has instead of the host's.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pontoon_engine::control::api::ContainerView;

use super::HOST_GATEWAY;
use crate::client::Failure;

/// Names of the host, where its loopback is open; the second one is Docker's.
const HOST_NAMES: [&str; 2] = ["host.pontoon.internal", "host.docker.internal"];

/// Writes a container's `/etc/hosts` and `/etc/resolv.conf` into `directory`. Returns what each replaces,
/// and its path.
pub(super) fn write(
    directory: &Path,
    view: &ContainerView,
    add_host: &[(String, String)],
) -> Result<Vec<(String, String)>, Failure> {
    let hosts = write_file(directory, "hosts", &hosts(view, add_host))?;
    let resolvers = write_file(directory, "resolv.conf", &resolvers())?;
    Ok(vec![
        ("/etc/hosts".to_owned(), hosts),
        ("/etc/resolv.conf".to_owned(), resolvers),
    ])
}

fn write_file(directory: &Path, name: &str, content: &str) -> Result<String, Failure> {
    let path = directory.join(name);
    fs::write(&path, content)?;
    // The command may change its identity, whatever the umask was.
    fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    path.into_os_string()
        .into_string()
        .map_err(|_| Failure::own("XDG_RUNTIME_DIR", "is not UTF-8"))
}

/// `/etc/hosts` as Docker writes it.
fn hosts(container: &ContainerView, more: &[(String, String)]) -> String {
    let mut text =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let (address, name) = (container.address.addr(), &container.name);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{address}\t{name}");
    if let Some(loopback) = container.host_loopback {
        let _ = writeln!(text, "{loopback}\t{}", HOST_NAMES.join(" "));
    }
    let host = container.host_loopback.unwrap_or(container.gateway);
    let host = host.to_string();
    for (name, address) in more {
        let address = if address == HOST_GATEWAY {
            &host
        } else {
            address
        };
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// The host's resolvers, as far as containers can reach them. Where only systemd-resolved's own listener
/// is named, those that it asks, as Docker does.
fn resolvers() -> String {
    const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";
    let read = |path: &str| without_loopback(&fs::read_to_string(path).unwrap_or_default());
    let own = read("/etc/resolv.conf");
    if names_a_server(&own) {
        return own;
    }
    let upstream = read(UPSTREAM);
    if names_a_server(&upstream) {
        upstream
    } else {
        own
    }
}

fn names_a_server(resolvers: &str) -> bool {
    let keyword = |line: &str| line.split_whitespace().next() == Some("nameserver");
    resolvers.lines().any(keyword)
}

/// `/etc/resolv.conf` as Docker gives it to containers of the default bridge: without resolvers that
/// listen on the host's loopback, where the container cannot reach them.
fn without_loopback(own: &str) -> String {
    let reachable = |line: &&str| {
        let mut words = line.split_whitespace();
        let server = words.next() == Some("nameserver");
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        !(server && address.is_some_and(|address| address.is_loopback()))
    };
    own.lines()
        .filter(reachable)
        .fold(String::new(), |text, line| text + line + "\n")
}
