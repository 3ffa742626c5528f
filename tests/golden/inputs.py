#!/usr/bin/python3
"""Writes the inputs of the golden tests (see README.md) with scapy, beside this file."""
import pathlib

from scapy.all import (ARP, ICMP, IP, TCP, UDP, Dot1Q, Ether, fragment,
                       wrpcap)

C1, C2 = ("02:42:ac:12:00:02", "172.18.0.2"), ("02:42:ac:12:00:03", "172.18.0.3")
GATEWAY = ("02:42:ac:12:00:01", "172.18.0.1")
EXTERNAL, ROUTER = ("02:00:00:00:00:01", "192.0.2.1"), ("02:00:00:00:00:fe", "192.0.2.254")
SERVER = "198.51.100.10"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def inside(host, dst, payload, **ip):
    """What a container sends to another container or, through the gateway, elsewhere."""
    mac = {C1[1]: C1[0], C2[1]: C2[0]}.get(dst, GATEWAY[0])
    return Ether(src=host[0], dst=mac) / IP(src=host[1], dst=dst, **ip) / payload


def outside(payload, src=SERVER, **ip):
    """What the router outside brings to the uplink's address."""
    return Ether(src=ROUTER[0], dst=EXTERNAL[0]) / IP(src=src, dst=EXTERNAL[1], **ip) / payload


def as_left(payload, **ip):
    """A datagram of a container as the outside sees it, without its frame."""
    return IP(src=EXTERNAL[1], dst=SERVER, ttl=63, **ip) / payload


def bridge():
    yield inside(C1, C2[1], UDP(sport=5000, dport=53) / b"question", id=1)
    yield inside(C2, C1[1], UDP(sport=53, dport=5000) / b"answer", id=2)
    yield inside(C1, C2[1], TCP(sport=40000, dport=80, flags="S", options=[("MSS", 1460)]), id=3)
    yield Ether(src=C1[0], dst=C2[0]) / Dot1Q(vlan=7) / IP(
        src=C1[1], dst=C2[1], id=4) / ICMP(id=9, seq=1) / b"tagged"
    yield Ether(src=C1[0], dst=C2[0], type=0x88B5) / b"an EtherType for experiments"
    yield Ether(src=C1[0], dst=BROADCAST, type=0x88B5) / b"to everybody"
    yield Ether(src=C1[0], dst="02:00:00:00:99:99", type=0x88B5) / b"to nobody known"


def arp():
    def packet(op, src, target_mac, target, to=BROADCAST):
        return Ether(src=src[0], dst=to) / ARP(
            op=op, hwsrc=src[0], psrc=src[1], hwdst=target_mac, pdst=target)

    unknown = "00:00:00:00:00:00"
    yield packet(1, C1, unknown, GATEWAY[1])
    yield packet(1, C1, unknown, C2[1])
    yield packet(2, C2, C1[0], C1[1], to=C1[0])
    yield packet(1, C1, unknown, "172.18.0.77")
    yield packet(1, ("02:42:ac:12:00:02", C2[1]), unknown, GATEWAY[1])
    yield packet(1, ROUTER, unknown, EXTERNAL[1])


def masquerade():
    for host in (C1, C2):
        yield inside(host, SERVER, UDP(sport=5000, dport=53) / host[1].encode(), id=1)
    yield outside(UDP(sport=53, dport=5000) / b"for container 1", id=2)
    yield inside(C1, SERVER, TCP(sport=40000, dport=80, flags="S", seq=100,
                                 options=[("MSS", 1460)]), id=3, flags="DF")
    yield outside(TCP(sport=80, dport=40000, flags="SA", seq=500, ack=101,
                      options=[("MSS", 1460)]), id=4, flags="DF")
    yield inside(C1, SERVER, TCP(sport=40000, dport=80, flags="A", seq=101, ack=501),
                 id=5, flags="DF")
    yield inside(C1, SERVER, TCP(sport=40000, dport=80, flags="PA", seq=101, ack=501) / b"GET /",
                 id=6, flags="DF")
    yield outside(TCP(sport=80, dport=40000, flags="R", seq=501), id=7, flags="DF")
    yield inside(C1, SERVER, ICMP(id=77, seq=1) / b"ping", id=8)
    yield outside(ICMP(type="echo-reply", id=77, seq=1) / b"ping", id=9)
    yield outside(UDP(sport=53, dport=6000) / b"nobody asked", id=10)


def dnat():
    yield outside(TCP(sport=1234, dport=8080, flags="S", seq=1), id=1, flags="DF")
    yield inside(C2, SERVER, TCP(sport=80, dport=1234, flags="SA", seq=9, ack=2), id=2, flags="DF")
    yield outside(TCP(sport=1234, dport=8080, flags="A", seq=2, ack=10), id=3, flags="DF")
    yield outside(UDP(sport=1234, dport=5353) / b"question", id=4)
    yield inside(C2, SERVER, UDP(sport=53, dport=1234) / b"answer", id=5)
    yield inside(C1, EXTERNAL[1], TCP(sport=1234, dport=8080, flags="S", seq=1), id=6, flags="DF")
    yield outside(TCP(sport=1234, dport=8081, flags="S", seq=1), id=7, flags="DF")


def icmp_error():
    yield inside(C1, SERVER, UDP(sport=5000, dport=53) / b"question", id=1, flags="DF")
    left = as_left(UDP(sport=5000, dport=53) / b"question", id=1, flags="DF")
    yield outside(ICMP(type=3, code=3) / left, id=2)
    yield outside(ICMP(type=3, code=4, nexthopmtu=1280) / left, src=ROUTER[1], id=3)
    yield outside(ICMP(type=11, code=0) / left, src=ROUTER[1], id=4)
    other = as_left(UDP(sport=6000, dport=53) / b"question", id=1, flags="DF")
    yield outside(ICMP(type=3, code=3) / other, id=5)
    yield inside(C1, SERVER, UDP(sport=5001, dport=53) / b"too old", id=6, ttl=1)
    yield inside(C1, GATEWAY[1], UDP(sport=5001, dport=99) / b"closed", id=7)
    yield inside(C1, GATEWAY[1], ICMP(id=3, seq=4) / b"alive?", id=8)


def fragments():
    whole = inside(C1, SERVER, UDP(sport=5000, dport=53) / (bytes(range(200)) * 10), id=1)
    yield from fragment(whole, 1000)
    late = inside(C2, SERVER, UDP(sport=5000, dport=53) / bytes(range(100)), id=1)
    yield from reversed(fragment(late, 64))
    back = outside(UDP(sport=53, dport=5000) / (bytes(range(200)) * 10), id=2)
    yield from fragment(back, 1400)
    yield from fragment(inside(C1, C2[1], UDP(sport=1, dport=2) / bytes(100), id=3), 64)


def main():
    place = pathlib.Path(__file__).parent
    for scenario in (bridge, arp, masquerade, dnat, icmp_error, fragments):
        frames = [Ether(bytes(frame)) for frame in scenario()]
        for number, frame in enumerate(frames):
            frame.time = 1000 + number / 1000
        wrpcap(str(place / f"{scenario.__name__}.in.pcap"), frames, linktype=1)


if __name__ == "__main__":
    main()
