//! Containers whose network namespace is not their own.

use super::{Container, Phase, State};
use crate::control::Invalid;
use crate::control::api::{AttachSpec, NetworkMode};

impl State {
    /// Checks what is asked for besides a namespace that is not the container's own, and names the other
    /// container by its id.
    pub(super) fn check_mode(&self, mut spec: AttachSpec) -> Result<AttachSpec, Invalid> {
        match &spec.mode {
            NetworkMode::Own => return Ok(spec),
            NetworkMode::Host => check_host(&spec)?,
            NetworkMode::Container { name } => {
                check_shared(&spec)?;
                let name = self.owner(name)?.id.clone();
                spec.mode = NetworkMode::Container { name };
            }
        }
        if spec.networks.is_empty() {
            return Ok(spec);
        }
        let what = "conflicting options: cannot attach both user-defined and non-user-defined \
                    network-modes";
        Err(Invalid::new("networks", what))
    }

    /// The container whose namespace another one is to be in.
    fn owner(&self, name: &str) -> Result<&Container, Invalid> {
        let owner = self.container(name)?;
        let what = match (owner.phase, owner.spec.pid) {
            (Phase::Exited(_), _) => "cannot join network of a non running container",
            (Phase::Running, None) => "cannot join network of a container that was attached",
            (Phase::Running, Some(_)) => return Ok(owner),
        };
        let what = format!("{what}: {}", owner.id);
        Err(Invalid::conflict("mode", what))
    }

    /// Whether another container that runs is in this one's network namespace.
    pub fn is_shared(&self, container: &Container) -> bool {
        let in_it = |c: &Container| match &c.spec.mode {
            NetworkMode::Container { name } => c.runs() && *name == container.id,
            NetworkMode::Own | NetworkMode::Host => false,
        };
        self.containers.values().any(in_it)
    }
}

impl Container {
    /// Checks that its network namespace is its own.
    ///
    /// # Errors
    /// It is somebody else's.
    pub fn check_own_namespace(&self) -> Result<(), Invalid> {
        if self.spec.mode == NetworkMode::Own {
            return Ok(());
        }
        let what = "container sharing network namespace with another container or host cannot be \
                    connected to any other network";
        Err(Invalid::conflict("", what))
    }
}

fn check_host(spec: &AttachSpec) -> Result<(), Invalid> {
    let refused = |field: &str, what: &str| Err(Invalid::new(field, what));
    if !spec.publish.is_empty() {
        let what = "Published ports are discarded when using host network mode";
        return refused("publish", what);
    }
    if spec.naming.hostname.is_some() {
        return refused("hostname", "conflicting options: hostname and the UTS mode");
    }
    check_servers(spec)
}

fn check_shared(spec: &AttachSpec) -> Result<(), Invalid> {
    let refused = |field: &str, what: &str| Err(Invalid::new(field, what));
    if !spec.publish.is_empty() {
        let what = "conflicting options: port publishing and the container type network mode.";
        return refused("", what);
    }
    if spec.naming.hostname.is_some() {
        return refused("", "conflicting options: hostname and the network mode.");
    }
    check_servers(spec)
}

fn check_servers(spec: &AttachSpec) -> Result<(), Invalid> {
    if spec.naming.servers.is_empty() {
        return Ok(());
    }
    Err(Invalid::new(
        "",
        "conflicting options: dns and the network mode.",
    ))
}
