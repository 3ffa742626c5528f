//! What flows do when something has happened to them or their time has come.

use std::cmp::Reverse;

use pontoon_packet::Timestamp;

use super::tcp::Step;
use super::{Carrier, Notice, UserUplink};

impl UserUplink {
    pub(super) fn serve_flow(&mut self, now: Timestamp, slot: u32) {
        let Some(Some(flow)) = self.flows.get_mut(slot as usize) else {
            return;
        };
        flow.touched = false;
        match &mut flow.carrier {
            Carrier::Published(_) | Carrier::Query(_) => {}
            Carrier::Tcp(_) => self.serve_tcp(now, slot),
            Carrier::Stream(_) => self.serve_stream(now, slot),
            Carrier::Datagram(datagram) => {
                let (errors, again) = datagram.serve(&mut self.arena);
                let quoted = datagram.quoted();
                self.notices.extend(errors.into_iter().map(|error| Notice {
                    port: flow.from,
                    quoted: quoted.to_vec(),
                    error,
                }));
                if again {
                    self.touch(slot);
                }
            }
        }
    }

    fn serve_tcp(&mut self, now: Timestamp, slot: u32) {
        let Self {
            flows,
            memory,
            arena,
            relayed,
            seeds,
            ..
        } = self;
        let Some(Some(flow)) = flows.get_mut(slot as usize) else {
            return;
        };
        let (id, from) = (flow.id, flow.from);
        let Carrier::Tcp(tcp) = &mut flow.carrier else {
            return;
        };
        let others = relayed.get(&from).copied().unwrap_or(0);
        let step = tcp.serve(now, arena, |ends| {
            Ok((memory.take(others)?, seeds.isn(now, ends)))
        });
        match step {
            Step::Goes { again, bytes } => {
                self.relayed_bytes += bytes;
                let due = tcp.poll_timeout(now);
                self.set_alarm(slot, due);
                if again {
                    self.touch(slot);
                }
            }
            Step::Over => self.over.push(id),
            Step::Broken => {
                self.broken += 1;
                self.over.push(id);
            }
            Step::Refused | Step::Unreachable(_) => {
                let held = tcp.held().to_vec();
                self.end(id);
                self.tell(from, &held, step);
            }
        }
    }

    pub(super) fn set_alarm(&mut self, slot: u32, due: Option<Timestamp>) {
        let (Some(due), Some(Some(flow))) = (due, self.flows.get_mut(slot as usize)) else {
            return;
        };
        if flow.alarm.is_none_or(|set| due < set) {
            flow.alarm = Some(due);
            self.alarms.push(Reverse((due, slot)));
        }
    }

    pub(super) fn ring_alarms(&mut self, now: Timestamp) {
        while let Some(Reverse((at, slot))) = self.alarms.peek().copied() {
            if at > now {
                break;
            }
            self.alarms.pop();
            if let Some(Some(flow)) = self.flows.get_mut(slot as usize)
                && flow.alarm == Some(at)
            {
                flow.alarm = None;
                self.touch(slot);
            }
        }
    }
}
