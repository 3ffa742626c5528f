//! RootlessKit with its builtin port driver, beside slirp4netns as dockerd-rootless.sh has it.

use super::super::packages::Packages;
use super::workload::Workload;
use super::{Container, Ports, Running, words};
use crate::error::{Context, Result};
use crate::lab::UPLINK_ADDRESS;
use crate::netns::Netns;
use crate::sandbox::PRIVATE_DIR;
use nix::mount::{MsFlags, mount};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Stands in for newuidmap(1): maps the one user that there is in our namespace.
const NEWUIDMAP: &str = "#!/bin/sh\necho \"0 $(id -u) 1\" >/proc/$1/uid_map\n";

/// Stands in for newgidmap(1).
const NEWGIDMAP: &str =
    "#!/bin/sh\necho deny >/proc/$1/setgroups\necho \"0 $(id -g) 1\" >/proc/$1/gid_map\n";

/// Lets RootlessKit believe that the user has subordinate ids, without which it does not start.
const SUBORDINATE_IDS: &str = "root:100000:65536\n";

impl Running {
    /// A container process inside RootlessKit.
    pub(super) fn rootlesskit(&mut self, ports: &Ports, packages: &Packages) -> Result<()> {
        let workload = Workload::new();
        let mut arguments = words(&format!(
            "--net=slirp4netns --slirp4netns-binary={} --disable-host-loopback \
             --port-driver=builtin --state-dir={PRIVATE_DIR}/rootlesskit-{}",
            packages.program("slirp4netns")?.display(),
            workload.mark(),
        ));
        for (protocol, host, container) in ports.published() {
            let port = format!("--publish={UPLINK_ADDRESS}:{host}:{container}/{protocol}");
            arguments.push(port);
        }
        arguments.extend(words(&workload.line()));
        let path = std::env::var("PATH").unwrap_or_default();
        let environment = [
            ("PATH", format!("{}:{path}", stand_ins()?.display())),
            (
                "LD_LIBRARY_PATH",
                packages.libraries().display().to_string(),
            ),
        ];
        let program = packages.program("rootlesskit")?;
        let rootlesskit = self.daemon_with(&program, &arguments, &environment)?;
        let pid = workload.await_start(|| rootlesskit.check())?;
        self.container = Container::Process(Netns::of_process(pid)?);
        Ok(())
    }
}

/// The directory with the programs that stand in for those of uidmap. The real ones refuse to
/// work in a user namespace that holds one user.
fn stand_ins() -> Result<PathBuf> {
    let directory = Path::new(PRIVATE_DIR).join("uidmap");
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir(&directory).context(format!("making {}", directory.display()))?;
    for (name, script) in [("newuidmap", NEWUIDMAP), ("newgidmap", NEWGIDMAP)] {
        let path = directory.join(name);
        fs::write(&path, script).context(format!("writing {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .context(format!("marking {} as a program", path.display()))?;
    }
    let ids = directory.join("ids");
    fs::write(&ids, SUBORDINATE_IDS).context(format!("writing {}", ids.display()))?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        mount(
            Some(&ids),
            file,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .context(format!("covering {file} (is it there?)"))?;
    }
    Ok(directory)
}
