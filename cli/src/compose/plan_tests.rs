//! Plans against a world that keeps the engine's rules.

use std::collections::BTreeSet;
use std::path::Path;

use pontoon_engine::control::api::{EndpointSpec, NetworkMode};
use pontoon_engine::control::{labels, place};
use proptest::prelude::*;

use super::file::read;
use super::file_tests::Here;
use super::plan::{Orphans, Plan, Seen, SeenContainer, SeenNetwork, Step, down, up};
use super::project::{DEPENDS_ON, PROJECT, Project, project};

/// One service: the networks it is on, a number that is its configuration, and what it depends on.
type Service = (BTreeSet<usize>, u8, Vec<usize>);
/// A file: numbers that are networks' configurations, and services.
type Topology = (Vec<u8>, Vec<Service>);

fn topology() -> impl Strategy<Value = Topology> {
    let networks = prop::collection::btree_set(0_usize..2, 1..3);
    let service = (networks, 0_u8..2, prop::collection::vec(0_usize..4, 0..3));
    let services = prop::collection::vec(service, 1..5);
    (prop::collection::vec(0_u8..2, 2), services)
}

/// Needs point backwards, so that there is no circle.
fn text((networks, services): &Topology) -> String {
    let mut text = "services:\n".to_owned();
    for (nth, (joined, config, needs)) in services.iter().enumerate() {
        let needs = needs.iter().filter(|need| **need < nth);
        let needs: BTreeSet<_> = needs.map(|need| format!("s{need}")).collect();
        let needs: Vec<_> = needs.into_iter().collect();
        let joined: Vec<_> = joined.iter().map(|network| format!("n{network}")).collect();
        text += &format!(
            "  s{nth}: {{command: sleep {config}, networks: [{}], depends_on: [{}]}}\n",
            joined.join(", "),
            needs.join(", ")
        );
    }
    text += "networks:\n";
    for (nth, config) in networks.iter().enumerate() {
        text += &format!("  n{nth}: {{mtu: 140{config}}}\n");
    }
    text
}

fn wanted(topology: &Topology) -> Project {
    let file = read(&text(topology), &Here).unwrap();
    project(&file, "p", Path::new("/")).unwrap()
}

/// The engine's part: what it refuses fails the test.
#[derive(Clone, Default)]
struct World {
    seen: Seen,
    started: usize,
}

impl World {
    fn carry_out(&mut self, steps: Vec<Step>) {
        steps.into_iter().for_each(|step| self.step(step));
    }

    fn container(&mut self, name: &str) -> &mut SeenContainer {
        let found = self.seen.containers.iter_mut().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("no container {name}"))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Stop { name } => {
                assert_eq!(self.container(&name).exit_status.replace(143), None);
                for network in &mut self.seen.networks {
                    network.containers.retain(|other| *other != name);
                }
            }
            Step::Remove { name } => {
                assert!(self.container(&name).exit_status.is_some(), "{name} runs");
                self.seen.containers.retain(|c| c.name != name);
            }
            Step::RemoveNetwork { name } => {
                let is_it = |n: &&SeenNetwork| n.name == name;
                let network = self.seen.networks.iter().find(is_it).expect("it is there");
                assert!(network.containers.is_empty(), "{name} is in use");
                self.seen.networks.retain(|n| n.name != name);
            }
            Step::CreateNetwork(args) => {
                assert!(self.seen.networks.iter().all(|n| n.name != args.name));
                self.seen.networks.push(SeenNetwork {
                    labels: labels::parse(&args.label).unwrap(),
                    name: args.name,
                    containers: Vec::new(),
                });
            }
            Step::Start { name, run } => {
                assert!(
                    self.seen.containers.iter().all(|c| c.name != name),
                    "{name} is there"
                );
                let labels = labels::parse(&run.join.label).unwrap();
                let needs = labels[DEPENDS_ON]
                    .split(',')
                    .filter(|need| !need.is_empty());
                for need in needs {
                    self.container(need);
                }
                self.started += 1;
                let network = self.join(&name, &run.join.network);
                self.seen.containers.push(SeenContainer {
                    id: format!("id{}", self.started),
                    name,
                    network,
                    labels,
                    exit_status: None,
                });
            }
            Step::Await { .. } => {}
            Step::Keep { name } => drop(self.container(&name).name.clone()),
        }
    }

    /// Puts a container where it is to be; returns what is shown as its network.
    fn join(&mut self, name: &str, told: &[String]) -> String {
        let (mode, places) = place::join(told, EndpointSpec::default()).unwrap();
        for place in &places {
            let mut networks = self.seen.networks.iter_mut();
            let network = networks.find(|n| n.name == place.network);
            let network = network.expect("its network is there");
            network.containers.push(name.to_owned());
        }
        if let NetworkMode::Container { name: owner } = mode {
            let owner = self.container(&owner);
            assert_eq!(owner.exit_status, None, "the owner runs");
            return format!("container:{}", owner.id);
        }
        let first = places.into_iter().next();
        first.map_or("none".to_owned(), |place| place.network)
    }

    fn up(&mut self, topology: &Topology) -> Plan {
        up(wanted(topology), &self.seen, Orphans::Remove).unwrap()
    }

    /// A network and a container of others.
    fn with_others() -> Self {
        let labels = labels::parse(&[format!("{PROJECT}=other")]).unwrap();
        let mut world = Self::default();
        world.seen.networks.push(SeenNetwork {
            name: "other".to_owned(),
            labels: labels.clone(),
            containers: vec!["theirs".to_owned()],
        });
        world.seen.containers.push(SeenContainer {
            id: "id".to_owned(),
            name: "theirs".to_owned(),
            network: "other".to_owned(),
            labels,
            exit_status: None,
        });
        world
    }

    fn names(&self) -> Vec<&str> {
        let networks = self.seen.networks.iter().map(|n| n.name.as_str());
        networks
            .chain(self.seen.containers.iter().map(|c| c.name.as_str()))
            .collect()
    }
}

fn started(plan: &Plan) -> Vec<String> {
    let name = |step: &Step| match step {
        Step::Start { name, .. } => Some(name.clone()),
        _ => None,
    };
    plan.steps.iter().filter_map(name).collect()
}

proptest! {
    #[test]
    fn a_second_time_changes_nothing(before in topology(), topology in topology()) {
        let mut world = World::with_others();
        for topology in [&before, &topology] {
            let plan = world.up(topology);
            world.carry_out(plan.steps);
        }
        prop_assert!(!world.up(&topology).steps.iter().any(Step::is_change));
    }

    #[test]
    fn what_changed_is_made_anew_and_nothing_else(topology in topology(), which in 0_usize..4) {
        let mut world = World::default();
        let plan = world.up(&topology);
        world.carry_out(plan.steps);
        let mut changed = topology;
        let which = which % changed.1.len();
        changed.1[which].1 += 2;
        let plan = world.up(&changed);
        prop_assert_eq!(started(&plan), [format!("p-s{which}-1")]);
        prop_assert!(!plan.steps.iter().any(|s| matches!(s, Step::CreateNetwork(_))));
        world.carry_out(plan.steps);
    }

    #[test]
    fn a_changed_network_takes_its_containers_with_it(topology in topology()) {
        let mut world = World::default();
        let plan = world.up(&topology);
        world.carry_out(plan.steps);
        let mut changed = topology;
        changed.0[1] += 2;
        let plan = world.up(&changed);
        let services = changed.1.iter().enumerate().filter(|(_, service)| service.0.contains(&1));
        let expected: Vec<_> = services.map(|(nth, _)| format!("p-s{nth}-1")).collect();
        prop_assert_eq!(started(&plan), expected);
        world.carry_out(plan.steps);
    }

    #[test]
    fn nothing_is_left_and_nobody_elses_is_touched(topology in topology(), ended in 0_usize..4) {
        let mut world = World::with_others();
        let plan = world.up(&topology);
        world.carry_out(plan.steps);
        if ended < topology.1.len() {
            world.step(Step::Stop { name: format!("p-s{ended}-1") });
        }
        let steps = down("p", &world.seen);
        world.carry_out(steps);
        prop_assert_eq!(world.names(), ["other", "theirs"]);
    }
}

/// A project of one service, with these fields of a second file line.
fn small(more: &str) -> Project {
    let text = format!("services:\n  a: {{command: x}}\n{more}");
    let file = read(&text, &Here).unwrap();
    project(&file, "p", Path::new("/")).unwrap()
}

#[test]
fn what_others_made_stands_in_the_way() {
    let mut world = World::default();
    world.carry_out(
        up(small("name: p\n"), &Seen::default(), Orphans::Leave)
            .unwrap()
            .steps,
    );
    for network in &mut world.seen.networks {
        network.labels.insert(PROJECT.to_owned(), "q".to_owned());
    }
    let error = up(small(""), &world.seen, Orphans::Leave).unwrap_err();
    assert!(
        error.contains("network p_default") && error.contains("external"),
        "{error}"
    );
    world.seen.networks.clear();
    world.seen.containers[0].labels.clear();
    let error = up(small(""), &world.seen, Orphans::Leave).unwrap_err();
    assert!(error.contains("container p-a-1"), "{error}");
}

#[test]
fn an_external_network_must_be_there_and_is_left() {
    let file = "networks:\n  default: {external: true, name: lan}\n";
    let error = up(small(file), &Seen::default(), Orphans::Leave).unwrap_err();
    assert!(
        error.contains("network lan") && error.contains("not there"),
        "{error}"
    );
    let mut world = World::default();
    world.seen.networks.push(SeenNetwork {
        name: "lan".to_owned(),
        labels: labels::parse(&[]).unwrap(),
        containers: Vec::new(),
    });
    let plan = up(small(file), &world.seen, Orphans::Leave).unwrap();
    world.carry_out(plan.steps);
    assert_eq!(world.names(), ["lan", "p-a-1"]);
    let steps = down("p", &world.seen);
    world.carry_out(steps);
    assert_eq!(world.names(), ["lan"]);
}

#[test]
fn orphans_are_told_of_or_removed() {
    let mut world = World::default();
    let plan = up(small("  b: {command: x}\n"), &world.seen, Orphans::Leave).unwrap();
    world.carry_out(plan.steps);
    let plan = up(small(""), &world.seen, Orphans::Leave).unwrap();
    assert_eq!(plan.orphans, ["p-b-1"]);
    assert!(!plan.steps.iter().any(Step::is_change));
    let plan = up(small(""), &world.seen, Orphans::Remove).unwrap();
    assert!(plan.orphans.is_empty());
    world.carry_out(plan.steps);
    assert_eq!(world.names(), ["p_default", "p-a-1"]);
}

#[test]
fn a_container_that_was_connected_by_hand_leaves_a_network_that_is_made_anew() {
    let mut world = World::default();
    let two = "  b: {command: x, network_mode: bridge}\n";
    world.seen.networks.push(SeenNetwork {
        name: "bridge".to_owned(),
        labels: labels::parse(&[]).unwrap(),
        containers: Vec::new(),
    });
    let plan = up(small(two), &world.seen, Orphans::Leave).unwrap();
    world.carry_out(plan.steps);
    world.seen.networks[1].containers.push("p-b-1".to_owned());
    let changed = format!("{two}networks: {{default: {{mtu: 1400}}}}\n");
    let plan = up(small(&changed), &world.seen, Orphans::Leave).unwrap();
    assert_eq!(started(&plan), ["p-a-1", "p-b-1"]);
    world.carry_out(plan.steps);
}

#[test]
fn a_network_with_somebody_elses_container_is_not_made_anew() {
    let mut world = World::default();
    let plan = up(small(""), &world.seen, Orphans::Leave).unwrap();
    world.carry_out(plan.steps);
    world.seen.networks[0].containers.push("guest".to_owned());
    let changed = "networks: {default: {mtu: 1400}}\n";
    let error = up(small(changed), &world.seen, Orphans::Leave).unwrap_err();
    assert!(
        error.contains("p_default") && error.contains("guest"),
        "{error}"
    );
}

#[test]
fn what_has_ended_runs_again_unless_its_end_was_waited_for() {
    let waits =
        "  b:\n    command: x\n    depends_on: {a: {condition: service_completed_successfully}}\n";
    for (more, status, again) in [("", 0, true), (waits, 0, false), (waits, 1, true)] {
        let mut world = World::default();
        let plan = up(small(more), &world.seen, Orphans::Leave).unwrap();
        let awaits = plan
            .steps
            .iter()
            .any(|s| matches!(s, Step::Await { name } if name == "p-a-1"));
        assert_eq!(awaits, !more.is_empty());
        world.carry_out(plan.steps);
        world.step(Step::Stop {
            name: "p-a-1".to_owned(),
        });
        world.container("p-a-1").exit_status = Some(status);
        let plan = up(small(more), &world.seen, Orphans::Leave).unwrap();
        let expected: &[&str] = if again { &["p-a-1"] } else { &[] };
        assert_eq!(started(&plan), expected, "{more} {status}");
    }
}

#[test]
fn who_shares_a_namespace_is_made_anew_with_its_owner() {
    let text = |command: &str| {
        format!(
            "  own: {{command: {command}}}\n  with: {{command: x, network_mode: 'service:own'}}\n"
        )
    };
    let mut world = World::default();
    let plan = up(small(&text("x")), &world.seen, Orphans::Leave).unwrap();
    world.carry_out(plan.steps);
    let again = up(small(&text("x")), &world.seen, Orphans::Leave).unwrap();
    assert!(!again.steps.iter().any(Step::is_change));
    let changed = up(small(&text("y")), &world.seen, Orphans::Leave).unwrap();
    assert_eq!(started(&changed), ["p-own-1", "p-with-1"]);
    world.carry_out(changed.steps);
    // Somebody has started the owner anew by hand.
    world.container("p-own-1").id = "another".to_owned();
    let again = up(small(&text("y")), &world.seen, Orphans::Leave).unwrap();
    assert_eq!(started(&again), ["p-with-1"]);
}

#[test]
fn whose_namespace_is_shared_must_be_there() {
    let text = "  with: {command: x, network_mode: 'container:theirs'}\n";
    let mut world = World::default();
    let error = up(small(text), &world.seen, Orphans::Leave).unwrap_err();
    assert!(error.contains("theirs, which is not there"), "{error}");
    world = World::with_others();
    let plan = up(small(text), &world.seen, Orphans::Leave).unwrap();
    world.carry_out(plan.steps);
    let steps = down("p", &world.seen);
    world.carry_out(steps);
    assert_eq!(world.names(), ["other", "theirs"]);
}
