//! End to end: TCP that the user uplink terminates, over a path to the container that loses.

use std::fs;

use pontoon_tests::e2e::{Background, Lab};

/// Five of a hundred frames are lost each way between the container and the engine. Without the
/// kernel's `netem`, nftables drops at random where they enter and leave the container.
fn lose(lab: &Lab) {
    lab.run(
        "c1",
        "nft add table netdev loss && nft add chain netdev loss in \
        \"{ type filter hook ingress device eth0 priority 0; }\" && \
        nft add rule netdev loss in numgen random mod 100 \\< 5 counter drop && \
        nft add table ip loss && nft add chain ip loss out \
        \"{ type filter hook output priority 0; }\" && \
        nft add rule ip loss out oif eth0 numgen random mod 100 \\< 5 drop && \
        ethtool -K eth0 gso off tso off gro off",
    );
}

/// Nothing is lost any more.
fn heal(lab: &Lab) {
    lab.run(
        "c1",
        "nft delete table netdev loss && nft delete table ip loss",
    );
}

/// One of ten frames reaches the container 20 ms later than those sent after it: it goes round by a
/// second interface, at whose other end a program holds it back.
fn reorder(lab: &Lab) -> Background {
    lab.run("c1", "ip link add late0 address $(cat /sys/class/net/eth0/address) type veth peer name late1 && \
        sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.late0.rp_filter=0 && \
        sysctl -qw net.ipv6.conf.late0.disable_ipv6=1 net.ipv6.conf.late1.disable_ipv6=1 && \
        ip link set late0 arp off up && ip link set late1 arp off up && \
        nft add rule netdev loss in ip protocol tcp numgen random mod 10 \\< 1 counter fwd to late0");
    fs::write("/run/late.py", LATE).expect("a writable /run");
    lab.spawn("c1", "/usr/bin/python3 /run/late.py")
}

/// Sends what comes on `late1` back after 20 ms, super-frames and half-done checksums as they are.
const LATE: &str = r"
import collections, select, socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 15, 1) # SOL_PACKET, PACKET_VNET_HDR
s.setsockopt(263, 23, 1) # PACKET_IGNORE_OUTGOING
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, 64 << 20)
s.bind(('late1', 3))
held = collections.deque()
while True:
    wait = held[0][0] - time.monotonic() if held else None
    if wait is not None and wait <= 0:
        s.send(held.popleft()[1])
    elif select.select([s], [], [], wait)[0]:
        held.append((time.monotonic() + 0.02, s.recv(1 << 17)))
";

/// How many frames towards the container each rule of `lose` and `reorder` has seen.
fn counts(lab: &Lab) -> Vec<u32> {
    let rules = lab.run("c1", "nft list table netdev loss");
    let counts = rules.split("packets ").skip(1);
    counts
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .collect()
}

/// Three transfers of twenty megabytes from `sender` to the other end, exact and without a reset.
fn transfer(lab: &Lab, sender: usize) {
    lab.outward(&format!(
        r#"
        listener = listen("ext", (SERVER, 7000))
        for _ in range(3):
            ends = pair("c1", listener)
            source, sink = ends[{sender}], ends[1 - {sender}]
            source.settimeout(60)
            sink.settimeout(60)
            data = random.randbytes(20 << 20)
            background(lambda: (source.sendall(data), source.shutdown(socket.SHUT_WR)))
            assert rest(sink) == data
    "#
    ));
}

pontoon_tests::user_laboratory_tests! { |lab|
    /// L4-09, outward: transfers end, are exact, and nobody resets.
    fn l4_09_transfers_outward_survive_loss {
        lose(lab);
        transfer(lab, 0);
        heal(lab);
    }

    /// L4-09, inward. What is lost is a frame of the engine's, up to sixty-four kilobytes at once.
    fn l4_09_transfers_inward_survive_loss {
        lose(lab);
        transfer(lab, 1);
        assert!(counts(lab)[0] > 10, "{:?} frames were lost", counts(lab));
        heal(lab);
    }

    /// L4-09, both ways, with reordering beside the loss.
    fn l4_09_transfers_survive_loss_and_reordering {
        lose(lab);
        let late = reorder(lab);
        transfer(lab, 0);
        transfer(lab, 1);
        assert!(counts(lab).iter().all(|count| *count > 10), "{:?} lost and late", counts(lab));
        heal(lab);
        drop(late);
        lab.run("c1", "ip link del late0");
    }
}
