//! The kernel's own bridge, where attacks work: the twin of tests whose guard cannot be switched off.

use std::fs;

use super::{Lab, dedent, sh};

/// Python module with what a container may not say.
const SPOOFS: &str = include_str!("spoofs.py");

impl Lab {
    /// Runs a Python program that uses the module `spoofs`; otherwise as [`Lab::wire`].
    pub fn spoofs(&self, program: &str) -> String {
        fs::write("/run/spoofs.py", SPOOFS).expect("a writable /run");
        self.wire(&format!("from spoofs import *\n{}", dedent(program)))
    }

    /// Namespaces `k0` to `k3` on a bridge of the kernel's, with the addresses of the gateway and of
    /// `c1` to `c3`.
    pub fn kernel_bridge(&self) {
        sh("ip netns add kernel && ip -n kernel link add bridge type bridge mcast_snooping 0");
        for host in 1..=4 {
            let ns = format!("k{}", host - 1);
            let mac = format!("02:42:ac:12:00:0{host}");
            sh(&format!(
                "ip netns add {ns} && ip -n {ns} link set lo up && ip -n kernel link add {ns} type veth \
                 peer name eth0 address {mac} netns {ns} && ip -n kernel link set {ns} master bridge up \
                 && ip -n {ns} addr add 172.18.0.{host}/24 dev eth0 && ip -n {ns} link set eth0 up"
            ));
        }
        sh("ip -n kernel link set bridge up");
    }
}
