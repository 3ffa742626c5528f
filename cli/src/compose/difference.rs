//! A project beside what there is: what becomes of each thing.

use pontoon_engine::control::api::Labels;

use super::file::Condition;
use super::order::order;
use super::plan::{Seen, SeenContainer, Step};
use super::project::{CONFIG, DEPENDS_ON, PROJECT, WantedContainer, WantedNetwork};

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There is none.
    Made,
    /// There is another one in its place.
    Replaced,
    /// It is there.
    Kept,
}

/// A project beside what there is.
pub(super) struct Difference<'a> {
    pub(super) seen: &'a Seen,
    pub(super) project: &'a str,
}

impl<'a> Difference<'a> {
    /// Whether the project made a thing with these labels.
    pub(super) fn is_ours(&self, labels: &Labels) -> bool {
        labels.get(PROJECT).is_some_and(|name| name == self.project)
    }

    /// What becomes of a network.
    pub(super) fn network(&self, wanted: &WantedNetwork) -> Result<Fate, String> {
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

    /// What becomes of containers, which come after those they need.
    pub(super) fn containers(
        &self,
        wanted: &[WantedContainer],
        replaced: &[String],
    ) -> Result<Vec<Fate>, String> {
        let mut fates: Vec<Fate> = Vec::with_capacity(wanted.len());
        for container in wanted {
            self.check_owner(container, wanted)?;
            let mut earlier = wanted.iter().zip(&fates);
            let loses_its_owner = earlier.any(|(other, fate)| {
                *fate != Fate::Kept && container.within.as_ref() == Some(&other.name)
            });
            let fate = match self.container(container, replaced, wanted)? {
                Fate::Kept if loses_its_owner => Fate::Replaced,
                fate => fate,
            };
            fates.push(fate);
        }
        Ok(fates)
    }

    fn container(
        &self,
        wanted: &WantedContainer,
        replaced: &[String],
        others: &[WantedContainer],
    ) -> Result<Fate, String> {
        let name = &wanted.name;
        let Some(seen) = self.seen.container(name) else {
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
        let is_at_home = !is_moved && self.is_with_its_owner(wanted, seen);
        if is_at_home && is_done && has_config(&seen.labels, &wanted.config) {
            Ok(Fate::Kept)
        } else {
            Ok(Fate::Replaced)
        }
    }

    /// Checks that there is, or will be, whose namespace a container is to share.
    fn check_owner(
        &self,
        wanted: &WantedContainer,
        others: &[WantedContainer],
    ) -> Result<(), String> {
        let Some(owner) = &wanted.within else {
            return Ok(());
        };
        if self.seen.container(owner).is_some() || others.iter().any(|c| c.name == *owner) {
            return Ok(());
        }
        Err(format!(
            "container {}: it is to be in the network namespace of {owner}, which is not there; start that \
             first",
            wanted.name
        ))
    }

    /// A container that runs on after whose namespace it shares is in nobody's.
    fn is_with_its_owner(&self, wanted: &WantedContainer, seen: &SeenContainer) -> bool {
        let Some(owner) = &wanted.within else {
            return true;
        };
        let owner = self.seen.container(owner);
        owner.is_some_and(|owner| seen.network == format!("container:{}", owner.id))
    }

    /// Containers of services that the file no longer has.
    pub(super) fn orphans(&self, wanted: &[WantedContainer]) -> Vec<&'a SeenContainer> {
        let is_wanted = |name: &str| wanted.iter().any(|container| container.name == name);
        let seen = self.seen.containers.iter();
        seen.filter(|c| self.is_ours(&c.labels) && !is_wanted(&c.name))
            .collect()
    }

    /// Checks that networks which are made anew have no containers but those that go.
    pub(super) fn check_free(&self, replaced: &[String], gone: &[&str]) -> Result<(), String> {
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
    pub(super) fn removals(&self, goes: impl Fn(&SeenContainer) -> bool) -> Vec<Step> {
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
