"""Runs a command on a kernel that refuses system calls: confined.py CALL[:FIRST[:THIRD]]=ERROR... -- COMMAND...

`socket:17=EPERM` refuses packet sockets alone, `socket:16:12=EPERM` those that speak to nf_tables, `unshare:&0x10000000=EPERM` what has a flag; `close_range=ENOSYS` is
an older kernel's.
"""
import ctypes, errno, os, platform, struct, sys

NUMBERS = {
    "x86_64": {"socket": 41, "clone": 56, "unshare": 272, "setns": 308, "mount": 165, "openat": 257},
    "aarch64": {"socket": 198, "clone": 220, "unshare": 97, "setns": 268, "mount": 40, "openat": 56},
}[platform.machine()]
# Numbers that every architecture shares.
NUMBERS |= {"pidfd_send_signal": 424, "pidfd_open": 434, "clone3": 435, "close_range": 436, "statx": {
    "x86_64": 332, "aarch64": 291}[platform.machine()]}
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
# Where seccomp_data holds the call's number, its first and its third argument.
NUMBER, FIRST, THIRD = 0, 16, 32


def instruction(code, k, true=0, false=0):
    return struct.pack("HBBI", code, true, false, k)


def rule(text):
    """Refuses one call."""
    call, error = text.split("=")
    name, *arguments = call.split(":")
    tests = [(NUMBER, EQUAL, NUMBERS[name])]
    for place, text in zip((FIRST, THIRD), arguments):
        tests.append((place, ANY_BIT if text[0] == "&" else EQUAL, int(text.lstrip("&"), 0)))
    program = instruction(RETURN, ERROR | errno.__dict__[error])
    for place, code, value in reversed(tests):
        program = instruction(LOAD, place) + instruction(code, value, 0, len(program) // 8) + program
    return program


def confine(rules):
    program = b"".join(map(rule, rules)) + instruction(RETURN, ALLOW)
    code = ctypes.create_string_buffer(program, len(program))
    filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, FILTER, filter) == 0, os.strerror(ctypes.get_errno())


at = sys.argv.index("--")
confine(sys.argv[1:at])
os.execvp(sys.argv[at + 1], sys.argv[at + 1:])
