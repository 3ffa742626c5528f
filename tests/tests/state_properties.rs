//! The state that outlives an engine: whatever was done, it is restored as it was, and what contradicts
//! itself is not restored at all.

use ipnet::IpNet;
use pontoon_engine::control::api::{AttachSpec, EndpointSpec, NetworkSpec};
use pontoon_engine::control::publish::{self, PublishRange};
use pontoon_engine::control::state::{Change, Damage, FreePorts, Snapshot, State};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

/// Something that somebody does to the state; most of it may be refused.
#[derive(Clone, Debug)]
enum Step {
    CreateNetwork(u8),
    RemoveNetwork(u8),
    Create {
        name: u8,
        network: u8,
        ip: Option<u8>,
    },
    Publish(u8, u16),
    Unpublish(u8, u16),
    End(u8, i32),
    Forget(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..6_u8;
    prop_oneof![
        (0..3_u8).prop_map(Step::CreateNetwork),
        (0..3_u8).prop_map(Step::RemoveNetwork),
        (name.clone(), 0..3_u8, proptest::option::of(any::<u8>()))
            .prop_map(|(name, network, ip)| Step::Create { name, network, ip }),
        (name.clone(), 8000..8003_u16).prop_map(|(name, port)| Step::Publish(name, port)),
        (name.clone(), 8000..8003_u16).prop_map(|(name, port)| Step::Unpublish(name, port)),
        (name.clone(), any::<i32>()).prop_map(|(name, status)| Step::End(name, status)),
        name.prop_map(Step::Forget),
    ]
}

fn container(name: u8, network: u8, ip: Option<u8>) -> AttachSpec {
    AttachSpec {
        name: Some(format!("c{name}")),
        networks: vec![EndpointSpec {
            network: format!("n{network}"),
            ip: ip.map(|last| [10, 0, network, last].into()),
            ..EndpointSpec::default()
        }],
        command: "command".to_owned(),
        ..AttachSpec::default()
    }
}

/// A port that leads to a container's port 80.
fn to_80(port: u16) -> PublishRange {
    publish::parse(&format!("{port}:80")).expect("as Docker writes it")
}

/// Does a step. Says what came of it.
fn take(state: &mut State, step: &Step, random: u64) -> String {
    let random = [random; 4];
    match step {
        Step::CreateNetwork(number) => {
            let spec = NetworkSpec {
                name: format!("n{number}"),
                subnet: Some(format!("10.0.{number}.0/28")),
                ..NetworkSpec::default()
            };
            let none: &[IpNet] = &[];
            format!("{:?}", state.create_network(&spec, none, 7, random))
        }
        Step::RemoveNetwork(number) => format!("{:?}", state.remove_network(&format!("n{number}"))),
        Step::Create { name, network, ip } => {
            let spec = container(*name, *network, *ip);
            format!(
                "{:?}",
                state.create_container(spec, 7, random, &mut FreePorts)
            )
        }
        Step::Publish(name, port) => {
            let range = to_80(*port);
            format!(
                "{:?}",
                state.publish(&format!("c{name}"), &[range], &mut FreePorts)
            )
        }
        Step::Unpublish(name, port) => {
            let range = to_80(*port);
            format!("{:?}", state.unpublish(&format!("c{name}"), &[range]))
        }
        Step::End(name, status) => {
            state.end(&format!("c{name}"), *status);
            String::new()
        }
        Step::Forget(name) => {
            state.forget(&format!("c{name}"));
            String::new()
        }
    }
}

fn written(state: &State) -> Value {
    serde_json::to_value(state.snapshot()).expect("it has no keys but strings")
}

fn read(written: Value) -> Result<State, String> {
    let snapshot: Snapshot = serde_json::from_value(written).map_err(|error| error.to_string())?;
    State::restore(snapshot).map_err(|error| error.to_string())
}

proptest! {
    /// What comes after is the same, whether the engine was another one meanwhile or not.
    #[test]
    fn whatever_was_done_is_restored_as_it_was(
        before in vec(step(), 0..40),
        after in vec(step(), 0..20),
    ) {
        let mut state = State::default();
        for (nth, step) in before.iter().enumerate() {
            take(&mut state, step, nth as u64);
        }
        let mut restored = read(written(&state)).unwrap();
        prop_assert_eq!(written(&restored), written(&state));
        for (nth, step) in after.iter().enumerate() {
            let random = (before.len() + nth) as u64;
            prop_assert_eq!(take(&mut restored, step, random), take(&mut state, step, random));
        }
        prop_assert_eq!(written(&restored), written(&state));
    }
}

proptest! {
    /// Writing down what has changed now and then says the same as writing everything down.
    #[test]
    fn changes_add_up_to_the_whole(steps in vec((step(), any::<bool>()), 0..60)) {
        let mut state = State::default();
        let mut known = state.snapshot();
        for (nth, (step, note)) in steps.iter().enumerate() {
            take(&mut state, step, nth as u64);
            if *note {
                let change = state.change_since(&known);
                let text = serde_json::to_string(&change).unwrap();
                prop_assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change.clone());
                let before = serde_json::to_value(&known).unwrap();
                known.apply(change.clone());
                state.settle();
                let after = serde_json::to_value(&known).unwrap();
                prop_assert_eq!(&after, &written(&state));
                prop_assert_eq!(change.is_empty(), before == after);
            }
        }
    }
}

/// Two networks, two containers with a published port each.
fn state() -> State {
    let mut state = State::default();
    let steps = [
        Step::CreateNetwork(0),
        Step::CreateNetwork(1),
        Step::Create {
            name: 0,
            network: 0,
            ip: None,
        },
        Step::Create {
            name: 1,
            network: 0,
            ip: None,
        },
        Step::Publish(0, 8000),
        Step::Publish(1, 8001),
    ];
    for (nth, step) in steps.iter().enumerate() {
        take(&mut state, step, nth as u64);
    }
    state
}

/// Where a sound state is changed, what to, and what is said of it.
const CONTRADICTIONS: &[(&str, &str, &str)] = &[
    (
        "/containers/1/name",
        r#""c0""#,
        "container c0 is there twice",
    ),
    (
        "/containers/1/number",
        "1",
        "container number 1 is there twice",
    ),
    (
        "/containers/1/number",
        "9",
        "c1 has a number that was never given",
    ),
    (
        "/containers/1/endpoints/0/port",
        "1",
        "port 1 is there twice",
    ),
    (
        "/containers/1/endpoints/0/port",
        "9",
        "c1 has a number that was never given",
    ),
    (
        "/containers/1/endpoints/0/network",
        r#""n7""#,
        "on network n7, which is not there",
    ),
    (
        "/containers/1/endpoints/0/address",
        r#""10.0.0.2""#,
        "10.0.0.2 on n0 is there twice",
    ),
    (
        "/containers/1/endpoints/0/address",
        r#""10.0.0.9""#,
        "c1 does not hold its address",
    ),
    (
        "/containers/1/endpoints/0/mac",
        r#""02:42:0a:00:00:02""#,
        "is there twice",
    ),
    (
        "/containers/1/endpoints/0/mac",
        r#""02:42""#,
        "not a hardware address",
    ),
    (
        "/containers/1/endpoints/0/publish/0/host",
        "8000",
        "8000/tcp is there twice",
    ),
    ("/networks/1/number", "1", "network number 1 is there twice"),
    (
        "/networks/1/number",
        "9",
        "n1 has a number that was never given",
    ),
    (
        "/networks/1/subnet",
        r#""10.0.0.0/24""#,
        "the subnet 10.0.0.0/24 is there twice",
    ),
];

#[test]
fn what_contradicts_itself_is_refused() {
    let whole = written(&state());
    read(whole.clone()).unwrap();
    for (at, value, why) in CONTRADICTIONS {
        let mut changed = whole.clone();
        let place = changed.pointer_mut(at);
        *place.unwrap_or_else(|| panic!("{at}: {whole:#}")) = serde_json::from_str(value).unwrap();
        let said = read(changed).map(drop).unwrap_err();
        assert!(said.contains(why), "{at}: {said}");
    }
}

#[test]
fn nothing_may_be_missing_or_unknown() {
    let whole = written(&state());
    for place in [
        "",
        "/networks/0",
        "/containers/0",
        "/containers/0/endpoints/0",
    ] {
        let fields = whole.pointer(place).and_then(Value::as_object).unwrap();
        let required = fields.iter().filter(|(_, value)| !value.is_null());
        for (name, _) in required {
            let mut changed = whole.clone();
            let object = changed.pointer_mut(place).and_then(Value::as_object_mut);
            object.unwrap().remove(name);
            assert!(read(changed).is_err(), "{place}/{name}");
        }
        let mut changed = whole.clone();
        let object = changed.pointer_mut(place).and_then(Value::as_object_mut);
        object.unwrap().insert("more".to_owned(), 1.into());
        assert!(read(changed).is_err(), "{place}/more");
    }
}

#[test]
fn damage_says_what_and_where() {
    let damage = Damage::NoNetwork {
        container: "a".to_owned(),
        network: "app".to_owned(),
    };
    let said = damage.to_string();
    assert_eq!(said, "container a is on network app, which is not there");
}
