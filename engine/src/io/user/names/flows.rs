//! Flows that ask for names, among the others of the user uplink.

use pontoon_names::Transport;
use pontoon_nat::ConnId;
use pontoon_packet::{Ip, L4, Timestamp};
use pontoon_relay::Emit as _;

use super::{Asker, NameServer, Questions, Stream};
use crate::PortId;
use crate::io::user::{Carrier, UserUplink, begins, inward};

/// Connections that one container may have to the name server. Our choice: more than any resolver
/// opens, and little memory.
const MAX_STREAMS: usize = 64;

impl UserUplink {
    /// The name server.
    pub(in crate::io) fn names(&mut self) -> &mut NameServer {
        &mut self.names
    }

    /// Begins a flow to the name server.
    pub(in crate::io::user) fn open_query(
        &mut self,
        now: Timestamp,
        id: ConnId,
        from: PortId,
        asker: Asker,
        datagram: &[u8],
        ip: &Ip,
    ) {
        let carrier = match ip.l4 {
            L4::Udp(_) => Carrier::Query(Questions { asker, waiting: 0 }),
            L4::Tcp(_) if begins(ip) => match self.accept_stream(now, from, asker) {
                Some(stream) => Carrier::Stream(Box::new(stream)),
                None => return self.reset(datagram),
            },
            _ => return self.reset(datagram),
        };
        self.place(id, from, carrier, None);
    }

    fn accept_stream(&mut self, now: Timestamp, from: PortId, asker: Asker) -> Option<Stream> {
        let count = self.names.streams.entry(from).or_insert(0);
        if *count >= MAX_STREAMS {
            return None;
        }
        let region = self.memory.take_small().ok()?;
        *count += 1;
        let isn = self.seeds.isn(now, asker.ends);
        Some(Stream::accept(now, asker, region, isn))
    }

    /// Takes a datagram with a query.
    pub(in crate::io::user) fn take_query(&mut self, now: Timestamp, id: ConnId, query: &[u8]) {
        let Self {
            flows,
            names,
            seeds,
            ..
        } = self;
        let flow = flows.get_mut(id.slot as usize).and_then(Option::as_mut);
        let Some(Carrier::Query(questions)) = flow.map(|flow| &mut flow.carrier) else {
            return;
        };
        let asker = questions.asker;
        let will_come = names.query(now, seeds, id, asker, Transport::Udp, query);
        questions.waiting += usize::from(will_come);
        if questions.waiting == 0 {
            names.answered.push(id);
        }
    }

    /// Reads queries from a container's connection, and sends answers.
    pub(in crate::io::user) fn serve_stream(&mut self, now: Timestamp, slot: u32) {
        let Self {
            flows,
            names,
            seeds,
            arena,
            ..
        } = self;
        let Some(Some(flow)) = flows.get_mut(slot as usize) else {
            return;
        };
        let id = flow.id;
        let Carrier::Stream(stream) = &mut flow.carrier else {
            return;
        };
        stream.serve(now, arena, |asker, message| {
            names.query(now, seeds, id, asker, Transport::Tcp, message)
        });
        if stream.is_over() {
            self.broken += u64::from(stream.is_broken());
            self.names.answered.push(id);
            return self.end(id);
        }
        let due = stream.poll_timeout(now);
        self.set_alarm(slot, Some(due));
    }

    /// Gives answers to the flows that asked, those that are still there.
    pub(in crate::io::user) fn hand_out_answers(&mut self, now: Timestamp) {
        while self.arena.has_room()
            && let Some(answer) = self.names.answers.pop_front()
        {
            let slot = answer.to.slot;
            let flow = self.flows.get_mut(slot as usize).and_then(Option::as_mut);
            let Some(flow) = flow.filter(|flow| flow.id == answer.to) else {
                continue;
            };
            match &mut flow.carrier {
                Carrier::Query(questions) => {
                    let ends = questions.asker.ends;
                    questions.waiting -= 1;
                    if questions.waiting == 0 {
                        self.names.answered.push(answer.to);
                    }
                    let frame = inward::datagram(ends.far, ends.container, &answer.bytes);
                    if let Some(frame) = frame {
                        self.arena.copy(&frame);
                    }
                }
                Carrier::Stream(stream) => {
                    stream.answer(now, &answer.bytes);
                    self.touch(slot);
                }
                Carrier::Tcp(_) | Carrier::Datagram(_) | Carrier::Published(_) => {}
            }
        }
    }

    /// Lets go of a container's connection.
    pub(in crate::io::user) fn close_stream(&mut self, from: PortId, stream: Stream) {
        stream.close(&mut self.memory);
        if let Some(count) = self.names.streams.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.names.streams.remove(&from);
            }
        }
    }
}
