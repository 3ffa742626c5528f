//! What is to be done so that a project is as its file says: a difference, in order.

use pontoon_engine::control::api::Labels;

use super::file::Condition;
use super::order::order;
use super::project::{CONFIG, DEPENDS_ON, PROJECT, Project, WantedContainer, WantedNetwork};
use crate::args::{CreateNetwork, Run};

/// What the engine has.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) networks: Vec<SeenNetwork>,
    pub(super) containers: Vec<SeenContainer>,
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
    pub(super) name: String,
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

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// There is none.
    Made,
    /// There is another one in its place.
    Replaced,
    /// It is there.
    Kept,
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
    let containers = project.containers.iter().map(|container| {
        let others = &project.containers;
        difference.container(container, &replaced, others)
    });
    let containers: Vec<_> = containers.collect::<Result<_, _>>()?;
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
    steps.extend(
        replaced
            .into_iter()
            .map(|name| Step::RemoveNetwork { name }),
    );
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

/// A project beside what there is.
struct Difference<'a> {
    seen: &'a Seen,
    project: &'a str,
}

impl<'a> Difference<'a> {
    fn is_ours(&self, labels: &Labels) -> bool {
        labels.get(PROJECT).is_some_and(|name| name == self.project)
    }

    fn network(&self, wanted: &WantedNetwork) -> Result<Fate, String> {
        let name = &wanted.name;
        let seen = self.seen.networks.iter().find(|n| n.name == *name);
        match (seen, &wanted.create) {
            (None, Some(_)) => Ok(Fate::Made),
            (Some(_), None) => Ok(Fate::Kept),
            (None, None) => Err(format!(
                "network {name}: it is external and not there; make it with `pontoon network create {name}`"
            )),
            (Some(seen), Some(_)) if !self.is_ours(&seen.labels) => Err(format!(
                "network {name}: it is there and was not made by the project {}; say `external: true`, or \
                 give another name:",
                self.project
            )),
            (Some(seen), Some(_)) if has_config(&seen.labels, &wanted.config) => Ok(Fate::Kept),
            (Some(_), Some(_)) => Ok(Fate::Replaced),
        }
    }

    fn container(
        &self,
        wanted: &WantedContainer,
        replaced: &[String],
        others: &[WantedContainer],
    ) -> Result<Fate, String> {
        let name = &wanted.name;
        let Some(seen) = self.seen.containers.iter().find(|c| c.name == *name) else {
            return Ok(Fate::Made);
        };
        if !self.is_ours(&seen.labels) {
            return Err(format!(
                "container {name}: it is there and was not made by the project {}; remove it, or give \
                 another container_name:",
                self.project
            ));
        }
        let is_moved = wanted.networks.iter().any(|n| replaced.contains(n));
        // Somebody may have connected it by hand.
        let networks = self.seen.networks.iter();
        let mut moved = networks.filter(|n| replaced.contains(&n.name));
        let is_moved = is_moved || moved.any(|n| n.containers.contains(name));
        let is_needed = others
            .iter()
            .any(|other| other.after.contains(&(name.clone(), Condition::Completed)));
        let is_done = match seen.exit_status {
            None => true,
            Some(status) => status == 0 && is_needed,
        };
        if !is_moved && is_done && has_config(&seen.labels, &wanted.config) {
            Ok(Fate::Kept)
        } else {
            Ok(Fate::Replaced)
        }
    }

    fn orphans(&self, wanted: &[WantedContainer]) -> Vec<&'a SeenContainer> {
        let is_wanted = |name: &str| wanted.iter().any(|container| container.name == name);
        let seen = self.seen.containers.iter();
        seen.filter(|c| self.is_ours(&c.labels) && !is_wanted(&c.name))
            .collect()
    }

    /// Checks that networks which are made anew have no containers but those that go.
    fn check_free(&self, replaced: &[String], gone: &[&str]) -> Result<(), String> {
        let networks = self.seen.networks.iter();
        for network in networks.filter(|n| replaced.contains(&n.name)) {
            let others = network.containers.iter();
            let mut others = others.filter(|name| !gone.contains(&name.as_str()));
            if let Some(other) = others.next() {
                return Err(format!(
                    "network {}: it was changed and must be made anew, but {other} is on it, which the file \
                     does not have; remove that first",
                    network.name
                ));
            }
        }
        Ok(())
    }

    /// Ends and forgets containers, each before those it depends on.
    fn removals(&self, goes: impl Fn(&SeenContainer) -> bool) -> Vec<Step> {
        let gone: Vec<_> = self.seen.containers.iter().filter(|c| goes(c)).collect();
        let things: Vec<_> = gone
            .iter()
            .map(|c| (c.name.as_str(), needs(&c.labels)))
            .collect();
        // Labels are anybody's: those that make no sense give no order.
        let ordered = order(&things).unwrap_or_else(|_| (0..gone.len()).collect());
        let ordered = ordered.into_iter().rev().map(|nth| gone[nth]);
        ordered.flat_map(removal).collect()
    }
}

fn removal(container: &SeenContainer) -> impl Iterator<Item = Step> {
    let name = container.name.clone();
    let stop = container
        .exit_status
        .is_none()
        .then(|| Step::Stop { name: name.clone() });
    stop.into_iter().chain([Step::Remove { name }])
}

fn has_config(labels: &Labels, config: &str) -> bool {
    labels.get(CONFIG).is_some_and(|seen| seen == config)
}

fn needs(labels: &Labels) -> Vec<&str> {
    let needs = labels.get(DEPENDS_ON).map(|names| names.split(','));
    needs.into_iter().flatten().collect()
}
