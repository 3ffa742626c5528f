//! End to end: containers on several networks, which they join and leave while they run.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pontoon_tests::e2e::containers::*;
use pontoon_tests::e2e::names::*;
use pontoon_tests::e2e::{run_pontoon, sh, try_sh, wait_for};
use serde_json::Value;

/// Names of the containers on a network.
fn on(network: &str) -> Vec<String> {
    let all: Value = serde_json::from_str(&run_pontoon("status --json")).expect("JSON");
    let networks = all["networks"].as_array().expect("a list");
    let network = networks.iter().find(|n| n["name"] == network).expect("it");
    let names = network["containers"].as_array().expect("a list").iter();
    names
        .map(|name| name.as_str().expect("text").to_owned())
        .collect()
}

/// How long what a container had may be left of it, on a machine that does much else. What is promised is
/// two seconds; a tenth of one is usual.
const AT_MOST: Duration = Duration::from_secs(5);
const CLIENTS: &str = include_str!("life/clients.py");
const GET: &str = "curl -sf --max-time 3 -o /dev/null";

pontoon_tests::names_tests! {
    fn a_container_on_two_networks_reaches_both_and_joins_none {
        let _upstream = networks();
        container("p", "--network app");
        container("q", "--network vault");
        container("a", "--network app --network-alias front --network name=vault,alias=safe,ip=172.19.0.77");
        let links = exec("a", "ip -o -4 addr show; ip route");
        for part in ["eth0    inet 172.18.0.3/24", "eth1    inet 172.19.0.77/24", "default via 172.18.0.1 dev eth0"] {
            assert!(links.contains(part), "{part}: {links}");
        }
        exec("a", "ping -c1 -W2 172.18.0.2 && ping -c1 -W2 172.19.0.2 && ping -c1 -W2 p && ping -c1 -W2 q");
        assert!(exec("p", "getent ahostsv4 front a").contains("172.18.0.3"));
        assert!(exec("q", "getent ahostsv4 safe").starts_with("172.19.0.77"));
        assert!(!succeeds("p", "getent ahostsv4 safe") && !succeeds("q", "getent ahostsv4 front"));
        for (from, to) in [("p", "172.19.0.2"), ("p", "172.19.0.77"), ("q", "172.18.0.2"), ("q", "172.18.0.3")] {
            assert!(!succeeds(from, &format!("ping -c1 -W1 {to}")), "{from} reaches {to}");
        }
        let view = shown("a");
        assert_eq!((&view["network"], &view["address"]), (&"app".into(), &"172.18.0.3/24".into()));
        assert_eq!(view["networks"][1]["ifname"], "eth1");
        assert!(exec("a", "cat /etc/hosts").contains("172.19.0.77\ta "));
    }

    /// The example of every Docker tutorial.
    fn a_box_reaches_a_web_server_only_while_it_is_on_its_network {
        let _upstream = networks();
        run_pontoon("network create net1");
        web("httpd", "");
        let address = shown("httpd")["address"].as_str().expect("text").replace("/16", "");
        container("box", "--network net1");
        let get = format!("{GET} http://{address}");
        assert!(!succeeds("box", &get), "before it is connected");
        run_pontoon("network connect bridge box");
        assert!(exec("box", "ip -o -4 addr show dev eth1").contains("172.17.0."));
        assert!(succeeds("box", &get), "while it is connected");
        assert_eq!(on("bridge"), ["box", "httpd"]);
        run_pontoon("network disconnect bridge box");
        assert!(!succeeds("box", "ip link show dev eth1"), "the interface is there still");
        assert!(!succeeds("box", &get), "after it was disconnected");
        assert_eq!(on("bridge"), ["httpd"]);
        assert!(exec("box", "ip route").contains("default via"), "its own network is untouched");
    }

    fn what_leads_out_moves_with_the_networks {
        let _upstream = networks();
        run_pontoon("network create back --subnet 172.20.0.0/24");
        container("db", "--network back");
        container("a", "--network vault");
        let found = |part: &str| assert!(exec("a", "ip route; cat /etc/resolv.conf /etc/hosts").contains(part), "{part}");
        found("default via 172.19.0.1 dev eth0");
        run_pontoon("network connect --alias front --ip 172.20.0.9 back a");
        // An internal network leads nowhere.
        found("default via 172.20.0.1 dev eth1");
        found("nameserver 172.20.0.1");
        found("172.20.0.9\ta ");
        assert!(exec("db", "getent ahostsv4 front").starts_with("172.20.0.9"));
        assert!(exec("a", "getent ahostsv4 db").starts_with("172.20.0.2"));
        run_pontoon("network disconnect back a");
        found("default via 172.19.0.1 dev eth0");
        found("nameserver 172.19.0.1");
        assert!(!exec("a", "cat /etc/hosts").contains("172.20.0.9"));
        assert!(!succeeds("db", "getent ahostsv4 front"));
        run_pontoon("network disconnect -f vault a");
        assert_eq!(exec("a", "ip -o link | wc -l; ip route"), "1\n");
        assert_eq!((&shown("a")["network"], &shown("a")["address"]), (&"none".into(), &Value::Null));
        run_pontoon("network connect app a");
        found("default via 172.18.0.1 dev eth0");
        found("nameserver 172.18.0.1");
        exec("a", "ping -c1 -W2 172.18.0.1");
    }

    /// Published ports go where the default route goes, as in Docker, and wait while there is none.
    fn published_ports_follow_the_default_route {
        let _upstream = networks();
        run_pontoon("network create back --subnet 172.20.0.0/24");
        web("w", "--network app --network back -p 8080:80");
        let leads = |place: usize| assert_eq!(shown("w")["networks"][place]["publish"][0]["host"], 8080);
        leads(0);
        let get = format!("{GET} http://127.0.0.1:8080");
        sh(&get);
        run_pontoon("network disconnect app w");
        sh(&get);
        leads(0);
        assert_eq!(run_pontoon("port w"), "80/tcp -> 0.0.0.0:8080\n");
        run_pontoon("network connect app w");
        sh(&get);
        leads(0);
        run_pontoon("network disconnect back w");
        sh(&get);
        // Nobody outside could reach a port there, and so it waits.
        run_pontoon("network disconnect app w");
        run_pontoon("network connect vault w");
        assert!(!try_sh(&get).status.success());
        assert_eq!(run_pontoon("port w"), "");
        container("other", "--network app -p 8080:81");
        let said = refused("network connect app w");
        assert!(said.contains("Bind for 0.0.0.0:8080/tcp failed: port is already allocated to other"), "{said}");
        assert_eq!(on("app"), ["other"]);
        run_pontoon("rm -f other");
        run_pontoon("network connect app w");
        sh(&get);
        leads(1);
        run_pontoon("network disconnect app w");
        run_pontoon("unpublish w 8080:80");
        run_pontoon("network connect app w");
        assert_eq!(run_pontoon("port w"), "");
        run_pontoon("rm -f w");
        assert!(!try_sh("ss -Hlnt | grep -q :8080").status.success(), "the port is held");
    }

    /// While a port moves between networks of the host's own sockets nobody is refused.
    fn a_port_that_moves_refuses_nobody {
        let _upstream = networks();
        run_pontoon("network create back --subnet 172.20.0.0/24");
        fs::write("/run/clients.py", CLIENTS).expect("a writable /run");
        run_pontoon("run -d --name w --network app --network back -p 8080:80 -- python3 /run/clients.py serve");
        wait_for(|| succeeds("w", "ss -Hlnt | grep -q :80"), "the server");
        let mut clients = Command::new("/usr/bin/python3");
        let clients = clients.args(["/run/clients.py", "ask", "4"]).stdout(Stdio::piped()).spawn().expect("python3");
        let leads = |network: &str| assert_eq!(shown("w")["networks"][0]["network"], network);
        for _ in 0..4 {
            leads("app");
            run_pontoon("network disconnect app w");
            leads("back");
            run_pontoon("network connect app w");
            run_pontoon("network disconnect back w");
            run_pontoon("network connect back w");
        }
        let output = clients.wait_with_output().expect("own child");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(" served, "), "{said}");
    }

    fn what_cannot_be_connected_is_refused_in_dockers_words {
        let _upstream = networks();
        container("a", "--network app");
        for (arguments, why) in [
            ("network connect app a", "endpoint with name a already exists in network app"),
            ("network connect none-such a", "No such network: none-such"),
            ("network connect vault none-such", "No such container: none-such"),
            ("network connect --ip 172.18.0.9 vault a", "not in the network's subnet"),
            ("network connect --ip 172.19.0.1 vault a", "Address already in use"),
            ("network connect --alias ../x vault a", "--alias: "),
            ("run --network app --network app -- true", "network \"app\" is specified multiple times"),
        ] {
            let said = refused(arguments);
            assert!(said.contains(why), "{arguments}: {said}");
        }
        let said = refused("network disconnect vault a");
        let id = shown("a")["id"].as_str().expect("text").to_owned();
        assert!(said.contains(&format!("container {id} is not connected to network vault")), "{said}");
        assert_eq!(exec("a", "ip -o link | wc -l"), "2\n", "nothing is left of what was refused");
        assert!(on("vault").is_empty());
        sh("ip netns add other");
        run_pontoon("attach --netns /run/netns/other --name other --network app --network vault");
        assert!(sh("ip -n other -o -4 addr").contains("eth1    inet 172.19.0."));
        assert!(refused("network connect bridge other").contains("was attached"));
        run_pontoon("detach other");
        assert!(on("vault").is_empty() && !sh("ip -n other -o link").contains("eth"));
    }

    /// Whatever ends a container, nothing of it stays on any of its networks. Its end is seen, not looked
    /// for: that of its monitor, which nobody else reports, takes no longer than the others.
    fn a_container_that_dies_in_any_way_leaves_all_its_networks {
        let _upstream = networks();
        let pid = |what: &str| shown("c")[what].to_string();
        let ways: [(&str, &dyn Fn()); 5] = [
            ("stop", &|| { run_pontoon("stop -t 0 c"); }),
            ("rm -f", &|| { run_pontoon("rm -f c"); }),
            ("the first process is killed", &|| { sh(&format!("kill -9 {}", pid("pid"))); }),
            ("the monitor is killed", &|| { sh(&format!("kill -9 {}", pid("monitor"))); }),
            ("both are killed", &|| { sh(&format!("kill -9 {} {}", pid("monitor"), pid("pid"))); }),
        ];
        for (way, end) in ways {
            run_pontoon("run -d --rm --name c -p 8080:80 --network name=app,ip=172.18.0.50 \
                         --network name=vault,ip=172.19.0.50 -- python3 -m http.server 80");
            run_pontoon("network connect bridge c");
            assert_eq!(exec("c", "ip -o link | wc -l"), "4\n", "{way}");
            let begin = Instant::now();
            end();
            let listed = |what: &str| run_pontoon(what).contains("172.1");
            let gone = || {
                let places = on("app").len() + on("vault").len() + on("bridge").len();
                places == 0 && !listed("ps -a") && run_pontoon("fdb").lines().all(|line| line.contains("self"))
            };
            wait_for(gone, way);
            assert!(!try_sh("ss -Hlnt | grep -q :8080").status.success(), "{way}: the port is held");
            let took = begin.elapsed();
            println!("{way}: nothing is left after {took:?}");
            assert!(took < AT_MOST, "{way}: {took:?}");
        }
    }

    fn inspect_shows_containers_as_docker_does {
        let _upstream = networks();
        run_pontoon("run -d --name a -p 127.0.0.1:8080:80 --network name=app,alias=front --network vault -- sleep 60");
        let all: Value = serde_json::from_str(&run_pontoon("inspect a")).expect("JSON");
        let at = |pointer: &str| all[0].pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {all}"));
        let text = |pointer: &str| at(pointer).as_str().unwrap_or_else(|| panic!("{pointer} in {all}"));
        assert_eq!((text("/Name"), text("/State/Status")), ("/a", "running"));
        assert_eq!(text("/HostConfig/NetworkMode"), "app");
        assert_eq!(at("/NetworkSettings/Ports/80~1tcp"), &serde_json::json!([{"HostIp": "127.0.0.1", "HostPort": "8080"}]));
        for (network, address) in [("app", "172.18.0.2"), ("vault", "172.19.0.2")] {
            let of = |key: &str| text(&format!("/NetworkSettings/Networks/{network}/{key}"));
            assert_eq!(of("IPAddress"), address);
            assert_eq!(of("EndpointID").len(), 64);
            let id: Value = serde_json::from_str(&run_pontoon(&format!("network inspect {network}"))).expect("JSON");
            assert_eq!(of("NetworkID"), id[0]["Id"]);
        }
        assert_eq!(at("/NetworkSettings/Networks/app/Aliases"), &serde_json::json!(["front"]));
        assert_eq!(run_pontoon("inspect -f {{.NetworkSettings.IPAddress}} a"), "172.18.0.2\n");
        run_pontoon("stop -t 0 a");
        assert_eq!(run_pontoon("inspect -f \"{{.State.Status}} {{.NetworkSettings.IPAddress}}\" a"), "exited \n");
        assert!(refused("inspect none-such").contains("No such container: none-such"));
    }
}

pontoon_tests::laboratory_tests! { |lab|
    /// A port moves between an interface's wire and the host's own sockets, and keeps its clients' addresses.
    fn a_port_moves_from_one_way_out_to_another {
        run_pontoon("network create sockets --subnet 172.24.0.0/24");
        run_pontoon("run -d --name w --network net --network sockets -p 8080:80 -- \
                     socat TCP-LISTEN:80,fork,reuseaddr 'SYSTEM:\"echo $SOCAT_PEERADDR at $SOCAT_SOCKADDR\"'");
        let address = |network: usize| {
            let address = shown("w")["networks"][network]["address"].as_str().expect("text").to_owned();
            address.split('/').next().expect("an address").to_owned()
        };
        let get = |address: &str| {
            let said = format!("192.0.2.254 at {address}\n");
            let ask = || lab.try_run("ext", "socat -T9 - TCP:192.0.2.1:8080,connect-timeout=5").stdout;
            wait_for(|| ask() == said.as_bytes(), &said);
        };
        get(&address(0));
        run_pontoon("network disconnect net w");
        get(&address(0));
        assert!(sh("ss -Hlnt").contains(":8080"), "a socket of the host's");
        run_pontoon("network connect net w");
        run_pontoon("network disconnect sockets w");
        get(&address(0));
        assert!(!sh("ss -Hlnt").contains(":8080"), "the wire");
        // What takes a socket cannot be had while somebody else has it: the port waits.
        run_pontoon("network connect sockets w");
        let mut holder = Command::new("socat").args(["TCP-LISTEN:8080,reuseaddr", "EXEC:true"]).spawn().expect("socat");
        wait_for(|| try_sh("ss -Hlnt | grep -q :8080").status.success(), "the port to be taken");
        let said = refused("network disconnect net w");
        let why = "w has left net; its ports wait to be led elsewhere: Bind for 0.0.0.0:8080/tcp failed: address already in use by";
        assert!(said.contains(why), "{said}");
        assert_eq!(shown("w")["networks"].as_array().expect("a list").len(), 1);
        holder.kill().expect("own child");
        holder.wait().expect("own child");
        run_pontoon("network disconnect sockets w");
        run_pontoon("network connect sockets w");
        get(&address(0));
        run_pontoon("rm -f w");
    }
}
