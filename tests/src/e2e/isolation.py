"""Ways in which a container may try to reach another one, for tests of what keeps them apart."""

from wire import *
from scapy.layers.inet import IPOption_LSRR
from scapy.layers.inet6 import IPv6

EVERYBODY = "ff:ff:ff:ff:ff:ff"


def gateway(ip):
    return ip.rsplit(".", 1)[0] + ".1"


def mac_of(ip):
    return "02:42:" + socket.inet_aton(ip).hex(":")


def place(ns, ip, interface="eth0"):
    """A container's port, who knows its address and gateway."""
    port = Port(ns, interface)
    port.ip, port.gateway = ip, mac_of(gateway(ip))
    return port


def tagged(a, to, mark):
    return Ether(src=a.mac, dst=to) / Dot1Q(vlan=7) / Raw(b"\x88\xb5" + mark)


FORMS = {
    "through the gateway": lambda a, b, mark:
        Ether(src=a.mac, dst=a.gateway) / IP(src=a.ip, dst=b.ip) / UDP(sport=1000, dport=2000) / mark,
    "IP to its hardware address": lambda a, b, mark:
        Ether(src=a.mac, dst=b.mac) / IP(src=a.ip, dst=b.ip) / UDP(sport=1000, dport=2001) / mark,
    "its hardware address": lambda a, b, mark: Ether(src=a.mac, dst=b.mac, type=0x88b5) / mark,
    "broadcast": lambda a, b, mark: Ether(src=a.mac, dst=EVERYBODY, type=0x88b5) / mark,
    "multicast": lambda a, b, mark: Ether(src=a.mac, dst="01:00:5e:00:00:fb", type=0x88b5) / mark,
    "IPv6 to all nodes": lambda a, b, mark:
        Ether(src=a.mac, dst="33:33:00:00:00:01") / IPv6(src="fe80::7", dst="ff02::1") / UDP() / mark,
    "tagged": lambda a, b, mark: tagged(a, b.mac, mark),
    "tagged broadcast": lambda a, b, mark: tagged(a, EVERYBODY, mark),
    "ARP request": lambda a, b, mark:
        Ether(src=a.mac, dst=EVERYBODY) / ARP(hwsrc=a.mac, psrc=a.ip, pdst=b.ip) / mark,
    "ARP answer": lambda a, b, mark:
        Ether(src=a.mac, dst=b.mac)
        / ARP(op=2, hwsrc=a.mac, psrc=gateway(b.ip), hwdst=b.mac, pdst=b.ip) / mark,
    "source route": lambda a, b, mark:
        Ether(src=a.mac, dst=a.gateway)
        / IP(src=a.ip, dst=gateway(a.ip), options=[IPOption_LSRR(routers=[b.ip])])
        / UDP(sport=1000, dport=2002) / mark,
}
# No gateway follows a source route, whoever it leads to.
EVERY = set(FORMS) - {"source route"}


def answers(a, address):
    """Whether somebody answers a ping of `a`, by its gateway, once everything before it has been handled."""
    ident = random.getrandbits(16)
    is_answer = lambda p: ICMP in p and p[ICMP].type == 0 and p[ICMP].id == ident
    a.send(Ether(src=a.mac, dst=a.gateway) / IP(src=a.ip, dst=address) / ICMP(id=ident) / b"ping")
    if address != gateway(a.ip):
        assert answers(a, gateway(a.ip)), "the own gateway"
    return bool(a.hear(is_answer, 1 if address == gateway(a.ip) else None))


def arrived(a, b, expected):
    """The forms of what `a` sends that `b` hears. Those that are expected are waited for."""
    nonce = b"%016x" % random.getrandbits(64)
    names = list(FORMS)
    a.send(*[FORMS[name](a, b, nonce + b"#%02d#" % n) for n, name in enumerate(names)])
    assert answers(a, gateway(a.ip)), "the own gateway"
    heard, end = set(), time.monotonic() + PATIENCE
    while True:
        for frame in b.hear(nonce):
            data = bytes(frame)
            heard.add(names[int(data[data.index(nonce) + 17:][:2])])
        if heard >= expected or time.monotonic() > end:
            return heard


def check(what, a, b, expected):
    heard = arrived(a, b, expected)
    assert heard == expected, f"{what}: {sorted(heard ^ expected)} should be otherwise"
