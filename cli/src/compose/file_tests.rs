//! What a file means, and what is refused.

use std::io;
use std::path::Path;

use pontoon_engine::config::OffloadMode;

use super::fields::Surroundings;
use super::file::{Condition, read};
use super::project::{Project, project};
use super::yaml::Fault;

/// A directory with two files of variables, and an environment with one.
pub(super) struct Here;

impl Surroundings for Here {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "WHO").then(|| "me".to_owned())
    }

    fn file(&self, path: &str) -> io::Result<String> {
        match path {
            "one.env" => Ok("A=1\nB=$WHO\nC=3 # not this\n".to_owned()),
            "two.env" => Ok("B='2'\n".to_owned()),
            "broken.env" => Ok("A=1\n\n=\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn parsed(text: &str) -> Result<Project, Fault> {
    let file = read(text, &Here)?;
    let name = file.name.clone().unwrap_or_else(|| "p".to_owned());
    project(&file, &name, Path::new("/here"))
}

/// The container of a file with one service whose fields these are.
fn one(fields: &str) -> Result<Project, Fault> {
    let lines = fields.lines().map(|line| format!("    {line}\n"));
    let text: String = lines.collect();
    parsed(&format!("services:\n  web:\n    command: [x]\n{text}"))
}

/// A file with most of what there is.
const SHOP: &str = "version: '3'\n\
         name: shop\n\
         x-common: &common {dns: 192.0.2.53, labels: [tier=back]}\n\
         services:\n\
         \x20 web:\n\
         \x20   <<: *common\n\
         \x20   command: python3 -m http.server '8 0'\n\
         \x20   depends_on: [db]\n\
         \x20   networks:\n\
         \x20     front: {ipv4_address: 172.30.0.9, aliases: [www]}\n\
         \x20     default: {}\n\
         \x20   ports: ['8080:80', {target: 53, published: 5353, host_ip: 127.0.0.1, protocol: udp}]\n\
         \x20   environment: {A: 1, WHO: , UNSET: , COST: '$$5 $WHO'}\n\
         \x20   working_dir: site\n\
         \x20   hostname: www\n\
         \x20   mac_address: 02:42:00:00:00:09\n\
         \x20   extra_hosts: ['a:192.0.2.1', 'b=192.0.2.2']\n\
         \x20 db:\n\
         \x20   command: sleep 60\n\
         \x20   container_name: store\n\
         networks:\n\
         \x20 front:\n\
         \x20   ipam: {config: [{subnet: 172.30.0.0/24, gateway: 172.30.0.1, aux_addresses: {a: 172.30.0.2}}]}\n\
         \x20   driver_opts: {com.docker.network.bridge.enable_icc: 'false'}\n\
         \x20   internal: true\n\
         \x20   offload: off\n\
         \x20   mtu: 1400\n";

#[test]
fn a_file_becomes_networks_and_containers_in_order() {
    let project = parsed(SHOP).unwrap();
    let names = |names: Vec<&str>| names.join(" ");
    assert_eq!(
        names(project.networks.iter().map(|n| n.name.as_str()).collect()),
        "shop_front shop_default"
    );
    let front = project.networks[0].create.as_ref().unwrap();
    assert_eq!(front.subnet.as_deref(), Some("172.30.0.0/24"));
    assert_eq!(front.aux_address.len(), 1);
    let icc = (
        "com.docker.network.bridge.enable_icc".to_owned(),
        "false".to_owned(),
    );
    assert_eq!(front.opt, [icc]);
    assert_eq!((front.internal, front.mtu), (true, Some(1400)));
    let offload = |nth: usize| Some(project.networks[nth].create.as_ref()?.offload);
    let told = [offload(0), offload(1)];
    assert_eq!(told, [Some(OffloadMode::Off), Some(OffloadMode::Auto)]);
    assert_eq!(
        names(project.containers.iter().map(|c| c.name.as_str()).collect()),
        "store shop-web-1"
    );
}

#[test]
fn a_service_becomes_what_run_takes() {
    let project = parsed(SHOP).unwrap();
    let web = &project.containers[1];
    assert_eq!(web.after, [("store".to_owned(), Condition::Started)]);
    let run = &web.run;
    assert_eq!(run.command, ["python3", "-m", "http.server", "8 0"]);
    assert_eq!(
        run.join.network,
        [
            "name=shop_front,alias=web,alias=www,ip=172.30.0.9",
            "name=shop_default,alias=web",
        ]
    );
    assert_eq!(run.join.publish, ["8080:80", "127.0.0.1:5353:53/udp"]);
    assert_eq!(
        run.join.dns,
        ["192.0.2.53".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(run.env, ["A=1", "WHO=me", "COST=$5 me"]);
    assert_eq!(run.workdir.as_deref(), Some(Path::new("/here/site")));
    assert_eq!(run.add_host, ["a:192.0.2.1", "b:192.0.2.2"]);
    for label in [
        "tier=back",
        "pontoon.project=shop",
        "pontoon.service=web",
        "pontoon.depends-on=store",
    ] {
        assert!(
            run.join.label.iter().any(|l| l == label),
            "{label}: {:?}",
            run.join.label
        );
    }
}

#[test]
fn entrypoint_comes_before_command_and_is_enough_alone() {
    let run = |fields: &str| one(fields).unwrap().containers[0].run.command.clone();
    assert_eq!(run("entrypoint: sh -c"), ["sh", "-c", "x"]);
    let alone = parsed("services:\n  a: {entrypoint: [top, -b]}\n").unwrap();
    assert_eq!(alone.containers[0].run.command, ["top", "-b"]);
}

#[test]
fn variables_come_from_files_and_the_last_that_is_said_counts() {
    let env = |fields: &str| one(fields).unwrap().containers[0].run.env.clone();
    assert_eq!(env("env_file: one.env"), ["A=1", "B=me", "C=3"]);
    let both = "env_file: [one.env, {path: two.env}, {path: none.env, required: false}]";
    assert_eq!(env(both), ["A=1", "B=2", "C=3"]);
    let own = format!("{both}\nenvironment: {{A: '0', D: '4', UNSET: }}");
    assert_eq!(env(&own), ["A=0", "B=2", "C=3", "D=4"]);
}

#[test]
fn modes_become_what_run_takes() {
    let networks = |fields: &str| one(fields).unwrap().containers[0].run.join.network.clone();
    for (mode, expected) in [
        ("bridge", "bridge"),
        ("none", "none"),
        ("host", "host"),
        ("container:theirs", "container:theirs"),
    ] {
        assert_eq!(networks(&format!("network_mode: {mode}")), [expected]);
    }
    assert!(one("network_mode: none").unwrap().networks.is_empty());
    let text = "services:\n  a: {command: x, network_mode: 'service:b'}\n  b: {command: x}\n";
    let project = parsed(text).unwrap();
    let [owner, shares] = &project.containers[..] else {
        panic!("{project:?}")
    };
    assert_eq!(owner.name, "p-b-1");
    assert_eq!(shares.run.join.network, ["container:p-b-1"]);
    assert_eq!(shares.within.as_deref(), Some("p-b-1"));
    let needs = |c: &str| c == "pontoon.depends-on=p-b-1";
    assert!(shares.run.join.label.iter().any(|label| needs(label)));
}

#[test]
fn a_digest_tells_of_changes_and_of_nothing_else() {
    let config = |fields: &str| one(fields).unwrap().containers[0].config.clone();
    let before = config("hostname: a");
    assert_eq!(before, config("\nhostname: 'a' # as before"));
    assert_eq!(before, config("hostname: a\nrestart: no"));
    for change in [
        "hostname: b",
        "hostname: a\nenv_file: one.env",
        "hostname: a\nports: [80]",
        "hostname: a\nnetwork_mode: bridge",
    ] {
        assert_ne!(before, config(change), "{change}");
    }
}

#[test]
fn faults_tell_line_and_field() {
    for (fields, line, field, what) in FAULTS {
        let fault = one(fields).unwrap_err();
        assert_eq!(
            (&fault.line, &fault.field.as_str()),
            (line, field),
            "{fields}: {fault}"
        );
        assert!(fault.what.contains(what), "{fields}: {fault}");
    }
}

#[test]
fn faults_of_the_file_as_a_whole_tell_line_and_field() {
    for (text, line, field, what) in FILE_FAULTS {
        let text = text.replace("SERVICES", "services:\n  a: {command: x}");
        let fault = parsed(&text).unwrap_err();
        assert_eq!(
            (&fault.line, &fault.field.as_str()),
            (line, field),
            "{text}: {fault}"
        );
        assert!(fault.what.contains(what), "{text}: {fault}");
    }
}

/// A service's fields, and the fault's line, field and reason.
const FAULTS: &[(&str, usize, &str, &str)] = &[
    ("image: nginx", 4, "services.web.image", "runs no images"),
    (
        "build:\n  context: .",
        4,
        "services.web.build",
        "runs no images",
    ),
    ("hostnam: a", 4, "services.web.hostnam", "unknown key"),
    (
        "volumes: [a]",
        4,
        "services.web.volumes",
        "the host's files",
    ),
    (
        "ports:\n  - 80\n  - 81:x",
        6,
        "services.web.ports[1]",
        "Invalid containerPort: x",
    ),
    (
        "ports:\n  - published: 80",
        5,
        "services.web.ports[0]",
        "expected target",
    ),
    ("dns: nowhere", 4, "services.web.dns", "expected an address"),
    (
        "networks:\n  default:\n    aliases: ['a,ip=10.0.0.1']",
        6,
        "services.web.networks.default.aliases",
        "invalid name",
    ),
    (
        "networks: [a]",
        2,
        "services.web.networks",
        "a: no such network",
    ),
    (
        "networks:\n  default:\n    ip: 10.0.0.1",
        6,
        "services.web.networks.default.ip",
        "unknown key",
    ),
    (
        "network_mode: other",
        4,
        "services.web.network_mode",
        "expected bridge, none, host",
    ),
    (
        "network_mode: service:a/b",
        4,
        "services.web.network_mode",
        "invalid name",
    ),
    (
        "network_mode: service:db",
        2,
        "services.web.network_mode",
        "db: no such service",
    ),
    (
        "network_mode: service:web",
        2,
        "services.web.depends_on",
        "wait for each other",
    ),
    (
        "network_mode: host\nnetworks: [a]",
        4,
        "services.web.network_mode",
        "not both",
    ),
    (
        "network_mode: none\nports: [80]",
        5,
        "services.web.ports",
        "not with network_mode: none",
    ),
    (
        "hostname: a\nnetwork_mode: host",
        4,
        "services.web.hostname",
        "not with network_mode: host",
    ),
    (
        "restart: always",
        4,
        "services.web.restart",
        "always: expected no",
    ),
    (
        "healthcheck: {test: x}",
        4,
        "services.web.healthcheck",
        "not supported",
    ),
    (
        "env_file:\n  - one.env\n  - none.env",
        6,
        "services.web.env_file[1]",
        "none.env: ",
    ),
    (
        "env_file: broken.env",
        4,
        "services.web.env_file",
        "broken.env:3: : expected NAME=VALUE",
    ),
    (
        "env_file: {required: true}",
        4,
        "services.web.env_file",
        "expected path:",
    ),
    (
        "depends_on: [db]",
        2,
        "services.web.depends_on",
        "db: no such service",
    ),
    (
        "depends_on:\n  web:\n    condition: service_healthy",
        6,
        "services.web.depends_on.web.condition",
        "expected service_started",
    ),
    (
        "environment:\n  A: $NO",
        5,
        "services.web.environment.A",
        "NO is not set",
    ),
    (
        "environment: [=a]",
        4,
        "services.web.environment",
        "without a name",
    ),
    (
        "labels: ['a b=c']",
        4,
        "services.web.labels",
        "invalid label",
    ),
    (
        "container_name: a/b",
        4,
        "services.web.container_name",
        "invalid name",
    ),
    (
        "working_dir: [a]",
        4,
        "services.web.working_dir",
        "expected a text",
    ),
    (
        "extra_hosts: [a]",
        4,
        "services.web.extra_hosts",
        "expected NAME:ADDRESS",
    ),
];

/// A file, and the fault's line, field and reason.
const FILE_FAULTS: &[(&str, usize, &str, &str)] = &[
    ("networks: {}", 1, "services", "at least one"),
    ("services:\n  a: {}\n", 2, "services.a", "expected command"),
    (
        "services:\n  a: {command: \"x 'y\"}\n",
        2,
        "services.a.command",
        "not closed",
    ),
    (
        "services:\n  a/b: {command: x}\n",
        2,
        "services.a/b",
        "invalid name",
    ),
    (
        "services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [a]}\n",
        2,
        "services.a.depends_on",
        "a → b",
    ),
    (
        "services:\n  a: {command: x, container_name: c}\n  b: {command: x, container_name: c}\n",
        3,
        "services.b",
        "name of a's",
    ),
    ("SERVICES\nvolumes: {}\n", 3, "volumes", "unknown key"),
    ("SERVICES\nname: Shop\n", 3, "name", "invalid project name"),
    (
        "SERVICES\nnetworks:\n  n:\n    driver: overlay\n",
        5,
        "networks.n.driver",
        "expected bridge",
    ),
    (
        "SERVICES\nnetworks:\n  n:\n    internal: yes\n",
        5,
        "networks.n.internal",
        "true or false",
    ),
    (
        "SERVICES\nnetworks:\n  n: {name: x}\n  m: {name: x}\n",
        5,
        "networks.m",
        "name of n",
    ),
    (
        "SERVICES\nnetworks:\n  n:\n    ipam:\n      config:\n        - subnet: 10.0.0.0/24\n        - subnet: 10.1.0.0/24\n",
        8,
        "networks.n.ipam.config[1]",
        "one subnet",
    ),
];
