//! The files that a container has instead of the host's.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pontoon_engine::control::api::ContainerView;
use pontoon_engine::control::naming;
use pontoon_names::ResolvConf;

use super::{Becoming, HOST_GATEWAY};
use crate::client::Failure;

/// The host's own.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What was said about a container's resolver; where nothing was said, it is as the host's.
pub(super) struct Resolver {
    /// Whom it asks.
    pub(super) servers: Vec<IpAddr>,
    /// Domains that are tried behind short names.
    pub(super) search: Vec<String>,
    /// Options of resolv.conf(5).
    pub(super) options: Vec<String>,
}

/// Writes a container's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` into `directory`. Returns
/// what each replaces, and its path.
pub(super) fn write(
    directory: &Path,
    view: &ContainerView,
    becoming: &Becoming,
) -> Result<Vec<(String, String)>, Failure> {
    let files = [
        ("hosts", hosts(view, &becoming.add_host)),
        ("hostname", format!("{}\n", view.hostname)),
        ("resolv.conf", resolv_conf(view, &becoming.resolver)),
    ];
    let write = |(name, content): (&str, String)| {
        Ok((
            format!("/etc/{name}"),
            write_file(directory, name, &content)?,
        ))
    };
    files.into_iter().map(write).collect()
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
    // Writing to a string cannot fail.
    for endpoint in &container.networks {
        let (address, name) = (endpoint.address.addr(), &container.name);
        let _ = writeln!(text, "{address}\t{name} {}", container.hostname);
    }
    let leading = container.networks.iter().find(|endpoint| endpoint.leads);
    let loopback = leading.and_then(|endpoint| endpoint.host_loopback);
    if let Some(loopback) = loopback {
        let _ = writeln!(text, "{loopback}\t{}", naming::HOST_NAMES.join(" "));
    }
    let host = loopback.or(leading.map(|endpoint| endpoint.gateway));
    let host = host.map_or_else(String::new, |address| address.to_string());
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

/// `/etc/resolv.conf`: the gateway, whose name server asks the servers that were given or the host's,
/// unless only the container can reach them.
fn resolv_conf(container: &ContainerView, resolver: &Resolver) -> String {
    // A host without the file has nothing to add.
    let host = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    // Interfaces mean something only in name servers, and those are not taken over.
    let host = ResolvConf::parse(&host, |_| None);
    let leading = container.networks.iter().find(|endpoint| endpoint.leads);
    let gateway = leading.map(|endpoint| endpoint.gateway);
    let own =
        leading.map(|endpoint| naming::are_inside(&resolver.servers, &endpoint.address.trunc()));
    let servers = match gateway.as_slice() {
        gateway if own == Some(false) => gateway,
        _ => &resolver.servers,
    };
    let search = given(&resolver.search);
    host.for_container(servers, search, given(&resolver.options))
        .to_string()
}

/// What was said, if anything was.
fn given(words: &[String]) -> Option<&[String]> {
    (!words.is_empty()).then_some(words)
}
