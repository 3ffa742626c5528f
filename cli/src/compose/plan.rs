//! What is to be done so that a project is as its file says: a difference, in order.

use pontoon_engine::control::api::Labels;

use super::difference::{Difference, Fate};
use super::file::Condition;
use super::project::{Project, WantedContainer, WantedNetwork};
use crate::args::{CreateNetwork, Run};

/// What the engine has.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) networks: Vec<SeenNetwork>,
    pub(super) containers: Vec<SeenContainer>,
}

impl Seen {
    /// A container by its name.
    pub(super) fn container(&self, name: &str) -> Option<&SeenContainer> {
        self.containers.iter().find(|c| c.name == name)
    }
}

/// A network that there is.
#[derive(Clone, Debug)]
pub(super) struct SeenNetwork {
    pub(super) name: String,
    pub(super) labels: Labels,
    /// Names of its containers that run.
    pub(super) containers: Vec<String>,
}

/// A container that there is.
#[derive(Clone, Debug)]
pub(super) struct SeenContainer {
    /// 64 digits.
    pub(super) id: String,
    pub(super) name: String,
    /// Name of its first network, or `container:` and the id of that whose namespace it shares.
    pub(super) network: String,
    pub(super) labels: Labels,
    /// Its exit status, once it has ended.
    pub(super) exit_status: Option<i32>,
}

/// One thing to do, or to say.
#[derive(Debug)]
pub(super) enum Step {
    /// End a container's command.
    Stop { name: String },
    /// Forget a container that has ended.
    Remove { name: String },
    /// Take a network away.
    RemoveNetwork { name: String },
    /// Make a network.
    CreateNetwork(Box<CreateNetwork>),
    /// Wait until a container has ended well.
    Await { name: String },
    /// Run a container.
    Start { name: String, run: Box<Run> },
    /// Leave a container as it is.
    Keep { name: String },
}

impl Step {
    /// Whether it changes anything.
    pub(super) const fn is_change(&self) -> bool {
        !matches!(self, Self::Await { .. } | Self::Keep { .. })
    }
}

/// What to do with containers of services that the file no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orphans {
    /// Tell of them.
    Leave,
    /// Remove them.
    Remove,
}

/// Steps, in order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Names of containers that are left although the file has them no longer.
    pub(super) orphans: Vec<String>,
}

/// What must be done for a project.
///
/// # Errors
/// What stands in the way, and what to do; nothing is to be done then.
pub(super) fn up(project: Project, seen: &Seen, orphans: Orphans) -> Result<Plan, String> {
    let difference = Difference {
        seen,
        project: &project.name,
    };
    let networks = project.networks.iter();
    let networks: Vec<_> = networks
        .map(|network| difference.network(network))
        .collect::<Result<_, _>>()?;
    let replaced = project.networks.iter().zip(&networks);
    let replaced: Vec<_> = replaced
        .filter(|(_, fate)| **fate == Fate::Replaced)
        .map(|(network, _)| network.name.clone())
        .collect();
    let containers = difference.containers(&project.containers, &replaced)?;
    let orphaned = difference.orphans(&project.containers);
    let mut gone: Vec<_> = project
        .containers
        .iter()
        .zip(&containers)
        .filter(|(_, fate)| **fate == Fate::Replaced)
        .map(|(container, _)| container.name.as_str())
        .collect();
    if orphans == Orphans::Remove {
        gone.extend(orphaned.iter().map(|c| c.name.as_str()));
    }
    difference.check_free(&replaced, &gone)?;
    let left = (orphans == Orphans::Leave).then_some(orphaned);
    let left = left.into_iter().flatten().map(|c| c.name.clone());
    let orphans = left.collect();
    let mut steps = difference.removals(|c| gone.contains(&c.name.as_str()));
    let replaced = replaced.into_iter();
    steps.extend(replaced.map(|name| Step::RemoveNetwork { name }));
    let made = project.networks.into_iter().zip(networks);
    steps.extend(made.filter_map(|(network, fate)| create(network, fate)));
    let started = project.containers.into_iter().zip(containers);
    steps.extend(started.flat_map(|(container, fate)| start(container, fate)));
    Ok(Plan { steps, orphans })
}

/// What must be done so that nothing is left of a project.
pub(super) fn down(project: &str, seen: &Seen) -> Vec<Step> {
    let difference = Difference { seen, project };
    let mut steps = difference.removals(|c| difference.is_ours(&c.labels));
    let networks = seen.networks.iter();
    let ours = networks.filter(|network| difference.is_ours(&network.labels));
    steps.extend(ours.map(|network| Step::RemoveNetwork {
        name: network.name.clone(),
    }));
    steps
}

fn create(network: WantedNetwork, fate: Fate) -> Option<Step> {
    let create = network.create.filter(|_| fate != Fate::Kept)?;
    Some(Step::CreateNetwork(Box::new(create)))
}

fn start(container: WantedContainer, fate: Fate) -> Vec<Step> {
    let WantedContainer {
        name, after, run, ..
    } = container;
    if fate == Fate::Kept {
        return vec![Step::Keep { name }];
    }
    let completed = after
        .into_iter()
        .filter(|(_, condition)| *condition == Condition::Completed);
    let mut steps: Vec<_> = completed.map(|(name, _)| Step::Await { name }).collect();
    let run = Box::new(run);
    steps.push(Step::Start { name, run });
    steps
}
