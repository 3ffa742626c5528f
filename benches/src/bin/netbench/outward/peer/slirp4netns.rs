//! slirp4netns, as podman and RootlessKit start it.

use super::super::packages::Packages;
use super::workload::Workload;
use super::{Ports, Running, words};
use crate::error::{Context, Error, Result};
use crate::lab::UPLINK_ADDRESS;
use crate::sandbox::PRIVATE_DIR;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// What it writes to its `--ready-fd`.
const READY: u8 = b'1';

/// The address that it gives the container (slirp4netns(1)).
const GUEST: &str = "10.0.2.100";

impl Running {
    /// A container process with slirp4netns as its only way out.
    pub(super) fn slirp4netns(
        &mut self,
        mtu: u16,
        ports: &Ports,
        packages: &Packages,
    ) -> Result<()> {
        let workload = Workload::new();
        let pid = self.container_process(&workload)?;
        let socket = format!("{PRIVATE_DIR}/slirp-{}", workload.mark());
        let arguments = words(&format!(
            "--configure --mtu={mtu} --disable-host-loopback --ready-fd=3 --api-socket={socket} \
             {pid} tap0"
        ));
        let libraries = packages.libraries().display().to_string();
        let environment = [("LD_LIBRARY_PATH", libraries)];
        self.daemon_with(&packages.program("slirp4netns")?, &arguments, &environment)?
            .await_ready(READY)?;
        for (protocol, host, container) in ports.published() {
            forward(&socket, protocol, host, container)?;
        }
        Ok(())
    }
}

fn forward(socket: &str, protocol: &str, host: u16, container: u16) -> Result<()> {
    let request = json!({"execute": "add_hostfwd", "arguments": {
        "proto": protocol,
        "host_addr": UPLINK_ADDRESS, "host_port": host,
        "guest_addr": GUEST, "guest_port": container,
    }});
    let answer = ask(socket, &request.to_string()).context("asking slirp4netns for a port")?;
    match serde_json::from_str::<Value>(&answer) {
        Ok(answer) if answer.get("return").is_some() => Ok(()),
        _ => Err(Error::Failed {
            command: request.to_string(),
            output: answer,
        }),
    }
}

/// One request per connection, one answer.
fn ask(socket: &str, request: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(request.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
