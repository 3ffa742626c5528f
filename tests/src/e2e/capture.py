"""Writes what passes an interface to a file, tags put back, until it is killed.

    capture.py INTERFACE FILE
"""

import socket, struct, sys, time

SOL_PACKET, PACKET_AUXDATA, VLAN_VALID = 263, 8, 0x10
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
s.bind((sys.argv[1], 3))
with open(sys.argv[2], "wb", buffering=0) as out:
    out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
    while True:
        data, control, _, _ = s.recvmsg(1 << 18, 256)
        for level, kind, body in control:
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", body[:20])
            if status & VLAN_VALID:
                data = data[:12] + struct.pack("!HH", tpid or 0x8100, tci) + data[12:]
        now = time.time()
        out.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(data), len(data)) + data)
