"""What a container may not say, for tests of what stops it.

    a, v = place("c2"), place("c1")
    assert arrived(FORMS, a, v) == set()

Each form is a function of the attacker, the victim and a mark: the frames, of which the first bears the mark.
"""

from wire import *
from scapy.layers.inet6 import (
    IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA,
    ICMPv6ND_Redirect, ICMPv6NDOptDstLLAddr, ICMPv6NDOptPrefixInfo, ICMPv6NDOptRDNSS, ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown, fragment6)
from scapy.layers.l2 import LLC, SNAP

EVERYBODY, NODES, STRANGER = "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01", "02:de:ad:be:ef:00"
GATEWAY_IP, THIRD = "172.18.0.1", "172.18.0.4"
THIRD_MAC = "02:42:ac:12:00:04"


def link_local(mac):
    """What a kernel makes of a hardware address."""
    a, b, c, d, e, f = bytes.fromhex(mac.replace(":", ""))
    return f"fe80::{a ^ 2:x}{b:02x}:{c:x}ff:fe{d:02x}:{e:x}{f:02x}"


def place(ns):
    """A port on the bridge, Pontoon's (`c1`) or the kernel's (`k1`), who knows its addresses."""
    port = Port(ns)
    port.ns, port.ip, port.ll = ns, ADDRESS["c" + ns[1]], link_local(port.mac)
    return port


def frame(a, v, **fields):
    return Ether(src=a.mac, dst=v.mac, **fields)


def to_all(a, hop=255, **fields):
    return Ether(src=a.mac, dst=NODES) / IPv6(src=a.ll, dst="ff02::1", hlim=hop, **fields)


def padding(mark):
    """The mark, where neighbour discovery allows anything."""
    data = mark + bytes(-(len(mark) + 2) % 8)
    return ICMPv6NDOptUnknown(type=253, len=(len(data) + 2) // 8, data=data)


def arp(a, mark, to=EVERYBODY, **fields):
    return [Ether(src=a.mac, dst=to) / ARP(**{"op": 2, "hwsrc": a.mac, "hwdst": to, **fields}) / mark]


def dhcp(a, sport=67, size=0):
    return (Ether(src=a.mac, dst=EVERYBODY) / IP(src=a.ip, dst="255.255.255.255", id=random.getrandbits(16))
            / UDP(sport=sport, dport=68)), bytes(size)


def reply_in_parts(a, v, mark):
    head, rest = dhcp(a, size=600)
    return fragment(head / (mark + rest), 256)


def spoofed_in_parts(a, v, mark):
    return fragment(frame(a, v) / IP(src=THIRD, dst=v.ip, id=7) / UDP() / (mark + bytes(600)), 256)


ADDRESSES = {
    "another IP address": ("SpoofedIp", lambda a, v, mark:
        [frame(a, v) / IP(src=THIRD, dst=v.ip) / UDP() / mark]),
    "a foreign IP address": ("SpoofedIp", lambda a, v, mark:
        [frame(a, v) / IP(src="10.9.9.9", dst=v.ip) / UDP() / mark]),
    "the gateway's IP address": ("SpoofedIp", lambda a, v, mark:
        [frame(a, v) / IP(src=GATEWAY_IP, dst=v.ip) / TCP(flags="R") / mark]),
    "another IP address, tagged": ("SpoofedIp", lambda a, v, mark:
        [frame(a, v) / Dot1Q(vlan=0) / IP(src=THIRD, dst=v.ip) / UDP() / mark]),
    "another IP address, in parts": ("SpoofedIp", spoofed_in_parts),
    "another IPv6 address": ("SpoofedIp", lambda a, v, mark:
        [frame(a, v) / IPv6(src=link_local(THIRD_MAC), dst=v.ll) / UDP() / mark]),
    "another MAC address": ("SpoofedMac", lambda a, v, mark:
        [Ether(src=STRANGER, dst=v.mac) / IP(src=a.ip, dst=v.ip) / UDP() / mark]),
    "both": ("SpoofedMac", lambda a, v, mark:
        [Ether(src=STRANGER, dst=v.mac) / IP(src="10.9.9.9", dst=v.ip) / UDP() / mark]),
    "another IP address behind SNAP": ("SnapEncapsulated", lambda a, v, mark:
        [Ether(src=a.mac, dst=v.mac, type=8 + 20 + 8 + len(mark)) / LLC() / SNAP(code=0x0800)
         / IP(src=THIRD, dst=v.ip) / UDP() / mark]),
}
SERVERS = {
    "a DHCP reply": ("DhcpServer", lambda a, v, mark: [dhcp(a)[0] / mark]),
    "a DHCP reply from another port": ("DhcpServer", lambda a, v, mark: [dhcp(a, sport=1067)[0] / mark]),
    "a DHCP reply in parts": ("DhcpServer", reply_in_parts),
    "a DHCPv6 reply": ("DhcpServer", lambda a, v, mark: [to_all(a) / UDP(sport=547, dport=546) / mark]),
    "a DHCPv6 reply in parts": ("DhcpServer", lambda a, v, mark: fragment6(
        to_all(a) / IPv6ExtHdrFragment(id=9) / UDP(sport=1547, dport=546) / (mark + bytes(1500)), 1280)),
}
NEIGHBOURS = {
    "ARP for the gateway": ("SpoofedArp", lambda a, v, mark:
        arp(a, mark, psrc=GATEWAY_IP, pdst=v.ip)),
    "ARP for the gateway to one": ("SpoofedArp", lambda a, v, mark:
        arp(a, mark, to=v.mac, psrc=GATEWAY_IP, pdst=v.ip)),
    "ARP for another container": ("SpoofedArp", lambda a, v, mark: arp(a, mark, psrc=THIRD, pdst=v.ip)),
    "an ARP request in another's name": ("SpoofedArp", lambda a, v, mark:
        arp(a, mark, op=1, psrc=THIRD, pdst=v.ip)),
    "a gratuitous ARP": ("SpoofedArp", lambda a, v, mark: arp(a, mark, op=1, psrc=THIRD, pdst=THIRD)),
    "ARP that names another's MAC address": ("SpoofedArp", lambda a, v, mark:
        arp(a, mark, hwsrc=THIRD_MAC, psrc=a.ip, pdst=v.ip)),
    "ARP for the gateway, tagged": ("SpoofedArp", lambda a, v, mark:
        [Ether(src=a.mac, dst=v.mac) / Dot1Q(vlan=0) / ARP(op=2, hwsrc=a.mac, psrc=GATEWAY_IP, pdst=v.ip) / mark]),
    "NA for another container": ("SpoofedNeighbour", lambda a, v, mark: [
        to_all(a) / ICMPv6ND_NA(R=0, O=1, tgt=link_local(THIRD_MAC)) / ICMPv6NDOptDstLLAddr(lladdr=a.mac)
        / padding(mark)]),
    "NA for the victim itself": ("SpoofedNeighbour", lambda a, v, mark: [
        to_all(a) / ICMPv6ND_NA(R=0, O=1, tgt=v.ll) / ICMPv6NDOptDstLLAddr(lladdr=a.mac) / padding(mark)]),
    "NA in another's name": ("SpoofedIp", lambda a, v, mark: [
        Ether(src=a.mac, dst=NODES) / IPv6(src=link_local(THIRD_MAC), dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(R=0, O=1, tgt=link_local(THIRD_MAC)) / ICMPv6NDOptDstLLAddr(lladdr=a.mac) / padding(mark)]),
    "NA behind options": ("SpoofedNeighbour", lambda a, v, mark: [
        to_all(a) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / ICMPv6ND_NA(R=0, O=1, tgt=link_local(THIRD_MAC))
        / ICMPv6NDOptDstLLAddr(lladdr=a.mac) / padding(mark)]),
    "NS that names another's MAC address": ("SpoofedNeighbour", lambda a, v, mark: [
        to_all(a) / ICMPv6ND_NS(tgt=v.ll) / ICMPv6NDOptSrcLLAddr(lladdr=THIRD_MAC) / padding(mark)]),
    "NS from nobody for the victim's": ("SpoofedNeighbour", lambda a, v, mark: [
        Ether(src=a.mac, dst=NODES) / IPv6(src="::", dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt=v.ll)
        / padding(mark)]),
}


def advertisement(a, mark):
    return (ICMPv6ND_RA(routerlifetime=1800, prf=1) / ICMPv6NDOptSrcLLAddr(lladdr=a.mac)
            / ICMPv6NDOptPrefixInfo(prefix="2001:db8:bad::", prefixlen=64)
            / ICMPv6NDOptRDNSS(dns=["2001:db8:bad::53"], lifetime=1800) / padding(mark))


def first_part(a, mark, header, **fields):
    """A router advertisement whose own header may come later: the mark is in the first part."""
    body = bytes(header / advertisement(a, mark))
    assert mark in body
    return [to_all(a, nh=44) / IPv6ExtHdrFragment(id=random.getrandbits(32), m=1, **fields) / (body + bytes(-len(body) % 8))]


ROUTERS = {
    "RA": ("RouterAdvertisement", lambda a, v, mark: [to_all(a) / advertisement(a, mark)]),
    "RA in the gateway's name": ("RouterAdvertisement", lambda a, v, mark: [
        Ether(src=a.mac, dst=NODES) / IPv6(src=link_local(GATEWAY), dst="ff02::1", hlim=255) / advertisement(a, mark)]),
    "RA to one": ("RouterAdvertisement", lambda a, v, mark: [
        frame(a, v) / IPv6(src=a.ll, dst=v.ll, hlim=255) / advertisement(a, mark)]),
    "RA with tag 0": ("RouterAdvertisement", lambda a, v, mark: [
        Ether(src=a.mac, dst=NODES) / Dot1Q(vlan=0) / IPv6(src=a.ll, dst="ff02::1", hlim=255) / advertisement(a, mark)]),
    "RA behind hop-by-hop options": ("RouterAdvertisement", lambda a, v, mark: [
        to_all(a) / IPv6ExtHdrHopByHop() / advertisement(a, mark)]),
    "RA behind destination options": ("RouterAdvertisement", lambda a, v, mark: [
        to_all(a) / IPv6ExtHdrDestOpt() / advertisement(a, mark)]),
    "RA behind seven headers": ("RouterAdvertisement", lambda a, v, mark: [
        to_all(a) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt()
        / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt() / advertisement(a, mark)]),
    "RA in a single part": ("RouterAdvertisement", lambda a, v, mark: [
        to_all(a) / IPv6ExtHdrFragment(id=11) / advertisement(a, mark)]),
    "RA in parts": ("RouterAdvertisement", lambda a, v, mark: first_part(a, mark, Raw(), nh=58)),
    "RA in parts behind options": ("RouterAdvertisement", lambda a, v, mark:
        first_part(a, mark, Raw(bytes([58, 0, 1, 4, 0, 0, 0, 0])), nh=60)),
    "redirect": ("RouterAdvertisement", lambda a, v, mark: [
        frame(a, v) / IPv6(src=a.ll, dst=v.ll, hlim=255) / ICMPv6ND_Redirect(tgt=a.ll, dst="2001:db8::1") / padding(mark)]),
}


def behind_snap(a, v, mark):
    inner = bytes(IPv6(src=a.ll, dst="ff02::1", hlim=255) / advertisement(a, mark))
    return [Ether(src=a.mac, dst=NODES, type=8 + len(inner)) / LLC() / SNAP(code=0x86DD) / inner]


ROUTERS["RA behind SNAP"] = ("SnapEncapsulated", behind_snap)


def dropped(ns):
    """Frames from a container that were dropped."""
    [container] = [c for c in pontoon("ps") if c["name"] == ns]
    return dict(pontoon("stats")["ports"])[container["networks"][0]["port"]]["dropped"]


def answers(a):
    """The gateway has answered `a`, and so everything has been handled that was sent before."""
    ident = random.getrandbits(16)
    a.send(Ether(src=a.mac, dst=GATEWAY) / IP(src=a.ip, dst=GATEWAY_IP) / ICMP(id=ident) / b"ping")
    a.hear(lambda p: ICMP in p and p[ICMP].type == 0 and p[ICMP].id == ident, 1)


def say(forms, a, v):
    """Sends each form; the mark that all of them begin with."""
    nonce = b"%016x" % random.getrandbits(64)
    for n, (_, form) in enumerate(forms.values()):
        mark = nonce + b"#%02d#" % n
        frames = form(a, v, mark)
        assert mark in bytes(frames[0]), "the first frame bears the mark"
        a.send(*frames)
    return nonce


def heard(forms, v, nonce, expected):
    """The forms of which the victim hears the mark. Those that are expected are waited for."""
    names, found, end = list(forms), set(), time.monotonic() + PATIENCE
    while True:
        for frame in v.hear(nonce):
            data = bytes(frame)
            found.add(names[int(data[data.index(nonce) + 17:][:2])])
        if found >= expected or time.monotonic() > end:
            return found


def stopped(forms, a, v):
    """No form arrives; each is dropped for its reason and counted at the attacker's port."""
    reasons = [reason for reason, _ in forms.values()]
    count = lambda: {reason: drops(f"bridge.{reason}") for reason in reasons}
    before, at_port, at_victim = count(), dropped(a.ns), dropped(v.ns)
    nonce = say(forms, a, v)
    answers(a)
    found = heard(forms, v, nonce, set())
    assert not found, f"arrived: {sorted(found)}"
    after = count()
    for reason in reasons:
        assert after[reason] - before[reason] >= reasons.count(reason), (reason, before, after)
    assert dropped(a.ns) - at_port == sum(after.values()) - sum(before.values())
    assert dropped(v.ns) == at_victim


def arrive(forms, a, v):
    """The twin: every form arrives."""
    found = heard(forms, v, say(forms, a, v), set(forms))
    assert found == set(forms), f"did not arrive: {sorted(set(forms) - found)}"


def shell(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


def until(done, what):
    end = time.monotonic() + PATIENCE
    while not (value := done()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.1)
    return value


def neighbour(ns, address):
    """The hardware address that a kernel knows of a neighbour."""
    said = shell(f"ip -n {ns} neigh show {address} dev eth0")
    return said.split(" lladdr ")[1].split()[0] if " lladdr " in said else None


def speaks_ipv6(ns):
    """Gives a container the link-local address that Pontoon spares it, once nobody else has it."""
    shell(f"ip netns exec {ns} sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=0")
    address = lambda: shell(f"ip -n {ns} -6 addr show dev eth0 scope link")
    until(lambda: "inet6" in (said := address()) and "tentative" not in said, f"the address of {ns}")
