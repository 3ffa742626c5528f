//! The API as programs see it: HTTP on the unix socket, with and without manners.

use std::fs;

use pontoon_tests::e2e::{refused, sh};

const SOCKET: &str = "/run/user/pontoon/api.sock";
const CLIENTS: &str = include_str!("../src/e2e/clients.py");

/// Runs a Python program that has `api`; whatever it asserts must hold.
fn clients(program: &str) -> String {
    fs::write("/run/clients.py", CLIENTS).expect("a writable /run");
    let begin = format!("from clients import *\napi = Api('{SOCKET}')\n");
    fs::write("/run/program.py", begin + program).expect("a writable /run");
    sh("PYTHONPATH=/run PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 /run/program.py")
}

/// Lets clients do what they do while c1 pings c2: every ping is answered.
fn while_pinging(program: &str) {
    clients(&format!("pings = Pings()\n{program}\npings.all_answered()"));
}

pontoon_tests::laboratory_tests! { |_lab|
    /// A program needs nothing but an HTTP client.
    fn curl_is_enough {
        let curl = |rest: &str| sh(&format!("curl -sS --unix-socket {SOCKET} {rest}"));
        let document: serde_json::Value =
            serde_json::from_str(&curl("http://x/v1/openapi.json")).expect("JSON");
        assert_eq!(document["openapi"], "3.1.0");
        assert!(document["paths"]["/v1/networks"]["post"].is_object());
        let made = curl(
            "-w ' %{http_code}' -H 'Content-Type: application/json' \
             -d '{\"name\": \"made\", \"subnet\": \"10.77.0.0/24\"}' http://x/v1/networks",
        );
        assert!(made.contains("10.77.0.1") && made.ends_with(" 201"), "{made}");
        let seen = curl("http://x/v1/networks/made http://x/v1/containers/c1");
        assert!(seen.contains("10.77.0.0/24") && seen.contains("172.18.0.2"), "{seen}");
        assert_eq!(curl("-w '%{http_code}' -X DELETE http://x/v1/networks/made"), "204");
    }

    /// BAD-08: each gets an error with field and reason, or its connection's end; frames pass meanwhile.
    fn clients_without_manners_disturb_nobody {
        while_pinging(r#"
def refused(expected, data, half=False):
    status, fields, answer = api.tell(data, half)
    assert status == expected, (data[:80], status, answer)
    assert set(answer) == {"field", "reason"} and answer["reason"], answer
    return fields
head = b"%s HTTP/1.1\r\nHost: x\r\n%s\r\n"
kind = b"Content-Type: application/json\r\n"
def post(body, kind=kind):
    return head % (b"POST /v1/networks", kind + b"Content-Length: %d\r\n" % len(body)) + body
assert refused(405, head % (b"PUT /v1/status", b""))["allow"] == "GET"
refused(404, head % (b"GET /v1/nothing", b""))
refused(415, post(b"{}", b"Content-Type: text/plain\r\n"))
refused(400, post(b"{"))
refused(400, post(b"[" * 60000))
refused(400, post(b'{"name": "n", "unknown": 1}'))
refused(400, post(b'\xff\xfe'))
refused(400, post(b'{"name": 5}'))
refused(400, post(b'[]'))
for name in b"../x", b"a\\u0000b", b"a\\nb", b"", b"x" * 4096:
    refused(422, post(b'{"name": "%s"}' % name))
refused(405, head % (b"FROB /v1/status", b""))
refused(400, b" \r\n\r\n")
refused(431, head % (b"GET /v1/status", b"A: b\r\n" * 1000))
refused(431, head % (b"GET /v1/status", b"A: " + b"b" * (1 << 20) + b"\r\n"))
refused(413, post(b" " * (1 << 20)))
refused(413, head % (b"POST /v1/networks", b"Content-Length: 4294967296\r\n"))
refused(400, bytes(1 << 20))
refused(400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10 + b"\r\n\r\n")
refused(400, b"GET /v1/sta", half=True)
refused(400, post(b"12345")[:-2], half=True)
status, _, answer = api.tell(head % (b"GET /v1/status", b""), half=True)
assert status == 200 and answer["version"], answer
# Asks and asks, and reads nothing.
greedy = api.connect()
greedy.setblocking(False)
try:
    for _ in range(100000):
        greedy.send(head % (b"GET /v1/openapi.json", b""))
except OSError:
    pass
# Nothing but zeros, for as long as somebody takes them.
endless = api.connect()
try:
    while True:
        endless.sendall(bytes(1 << 16))
except OSError:
    pass
slow = [api.connect() for _ in range(8)]
for _ in range(3):
    for client in slow:
        client.send(b"G")
    assert api.ask("GET", "/v1/status")[0] == 200
    time.sleep(0.1)
"#);
    }

    /// BAD-08, FLT-20: those who ask are served, however many only sit there.
    fn idle_and_racing_clients_disturb_nobody {
        while_pinging(r#"
idle = [api.connect() for _ in range(64)]
def race(number):
    return {api.ask("GET", "/v1/containers")[0] for _ in range(20)}
assert together(20, race) == [{200}] * 20
"#);
    }

    /// Errors name fields as the document does, and the command line names its own options.
    fn errors_name_the_documents_fields {
        clients(r#"
names = set()
def collect(node):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == "properties":
            names.update(value)
        if isinstance(value, (dict, list)):
            collect(value)
    if isinstance(node, dict) and node.get("in") == "query":
        names.add(node["name"])
collect(api.ask("GET", "/v1/openapi.json")[1])
def network(**fields):
    return "POST", "/v1/networks", {"name": "n", **fields}
def ports(ports):
    return "POST", "/v1/containers/c1/ports", {"ports": ports}
for (method, path, body), status, field in [
    (network(name="../x"), 422, "name"),
    (network(subnet="nonsense"), 422, "subnet"),
    (network(subnet="172.18.0.0/25"), 409, "subnet"),
    (network(ip_range="10.0.0.0/24"), 422, "ip_range"),
    (network(subnet="10.0.0.0/24", gateway="10.1.0.1"), 422, "gateway"),
    (network(subnet="10.0.0.0/24", aux_addresses={"a": "10.1.0.1"}), 422, "aux_addresses"),
    (network(uplink="dev:none-such"), 422, "uplink"),
    (network(mtu=1), 422, "mtu"),
    (network(host_port="x"), 422, "host_port"),
    (network(labels={"": ""}), 422, "labels"),
    (network(options={"x": ""}), 422, "options"),
    (ports(["[::1]:80:80"]), 422, "ports"),
    (("DELETE", "/v1/containers/c1/ports?port=1", None), 404, "port"),
    (("DELETE", "/v1/containers/c1/ports?port=x", None), 422, "port"),
]:
    given, answer = api.ask(method, path, body)
    assert (given, answer["field"]) == (status, field), (method, path, body, given, answer)
    assert field in names, (field, names)
    assert "--" not in answer["reason"], answer
"#);
        for (arguments, told) in [
            ("network create ../x", "NETWORK: "),
            ("network create --subnet nonsense n", "--subnet: "),
            ("network create --subnet 10.0.0.0/24 --aux-address a=10.1.0.1 n", "--aux-address: "),
            ("publish c1 [::1]:80:80", "PORT: "),
            ("unpublish c1 1", "PORT: "),
            ("run --mac-address x -- true", "--mac-address: "),
        ] {
            let said = refused(arguments);
            assert!(said.starts_with(&format!("pontoon: {told}")), "{arguments}: {said}");
        }
    }

    /// BAD-08: a thousand connections that ask for nothing keep neither frames nor those who ask from going on.
    fn a_thousand_connections_disturb_nobody {
        while_pinging(r#"
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
engine = api.ask("GET", "/v1/status")[1]["engine"]["pid"]
files = lambda: len(os.listdir(f"/proc/{engine}/fd"))
before = files()
crowd = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
let_in, most = 0, 0
for client in crowd:
    client.setblocking(False)
for turn in range(5):
    for client in crowd:
        try:
            client.connect(api.path)
            let_in += 1
        except OSError:
            pass  # The queue is full, or it is in already.
    most = max(most, files())
    assert api.ask("GET", "/v1/status")[0] == 200
assert let_in >= 64, let_in
# Those that have given up their place may still be on their way out.
assert most <= before + 4 * 64, (before, most)
end = time.monotonic() + PATIENCE
while files() > before + 64 + 8:
    assert time.monotonic() < end, (before, files())
    time.sleep(0.1)
[client.close() for client in crowd]
"#);
    }

    /// BAD-09: of those who want the same one gets it.
    fn a_port_that_many_want_is_published_once {
        clients(r#"
want = {"ports": ["7000:80"]}
for _ in range(5):
    answers = together(20, lambda n: api.ask("POST", f"/v1/containers/c{n % 3 + 1}/ports", want))
    statuses = [status for status, _ in answers]
    assert statuses.count(201) == 1 and statuses.count(409) == 19, answers
    taken = [api.ask("DELETE", f"/v1/containers/c{n + 1}/ports?port=7000:80")[0] for n in range(3)]
    assert sorted(taken) == [200, 404, 404], taken
"#);
    }

    /// BAD-10.
    fn what_is_done_twice_is_refused_the_same_way_each_time {
        clients(r#"
net = {"name": "twice"}
for _ in range(3):
    assert api.ask("POST", "/v1/networks", net)[0] == 201
    for _ in range(2):
        assert api.ask("POST", "/v1/networks", net)[0] == 409
    assert api.ask("DELETE", "/v1/networks/twice")[0] == 204
    for _ in range(2):
        assert api.ask("DELETE", "/v1/networks/twice")[0] == 404
        assert api.ask("GET", "/v1/networks/twice")[0] == 404
assert api.ask("DELETE", "/v1/networks/net")[0] == 409
assert api.ask("DELETE", "/v1/networks/bridge")[0] == 409
assert api.ask("POST", "/v1/containers", {"name": "x", "networks": []})[0] == 422
for route in ("stop", "detach"):
    assert api.ask("POST", f"/v1/containers/nobody/{route}")[0] == 404
"#);
    }

    /// Whoever watches and does not read holds nobody up.
    fn those_who_watch_and_do_not_read_hold_nobody_up {
        while_pinging(r#"
watchers = []
for _ in range(16):
    client = api.connect()
    client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(15).startswith(b"HTTP/1.1 200 OK")
    watchers.append(client)
assert api.ask("GET", "/v1/events")[0] == 429
for number in range(300):
    assert api.ask("POST", "/v1/containers/c1/ports", {"ports": ["7000:80"]})[0] == 201
    assert api.ask("DELETE", "/v1/containers/c1/ports?port=7000:80")[0] == 200
"#);
    }
}

pontoon_tests::user_laboratory_tests! { |_lab|
    /// BAD-09: a thousand times a port is published and taken back by many at once: what has been made and not
    /// taken back is there, and nothing else is, in the tables or on the host.
    fn publishing_and_taking_back_at_once_ends_consistent {
        while_pinging(r#"
want = {"ports": ["7000:80"]}
holders = lambda: [c["name"] for c in api.ask("GET", "/v1/containers")[1] if c["publish"]]
def race(number):
    count = 0
    target = f"/v1/containers/c{number // 2 % 3 + 1}/ports"
    for _ in range(50):
        if number % 2:
            status = api.ask("POST", target, want)[0]
            assert status in (201, 409), status
            count += status == 201
        else:
            status = api.ask("DELETE", target + "?port=7000:80")[0]
            assert status in (200, 404), status
            count -= status == 200
    return count
import subprocess
def listening():
    return len(subprocess.check_output(["ss", "-Hlnt", "sport = :7000"], text=True).splitlines())
counts = together(20, race)
assert None not in counts and max(counts) > 0 > min(counts), counts
left = holders()
assert len(left) == sum(counts) == listening(), (left, counts, listening())
for name in left:
    assert api.ask("DELETE", f"/v1/containers/{name}/ports?port=7000:80")[0] == 200
assert (holders(), listening()) == ([], 0)
assert api.ask("POST", "/v1/containers/c2/ports", want)[0] == 201
assert (holders(), listening()) == (["c2"], 1)
assert api.ask("DELETE", "/v1/containers/c2/ports?port=7000:80")[0] == 200
"#);
    }
}
