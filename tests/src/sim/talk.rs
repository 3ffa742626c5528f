//! What the programs at both ends of a connection do.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, State};

use pontoon_engine::config::PortId;

/// What a program does of its own accord. Neither closes anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Sends these bytes.
    Says(Vec<u8>),
    /// Sends back what it gets.
    Echoes,
}

/// How the other side's half ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a FIN: everything has arrived.
    Finished,
    /// With a reset.
    Aborted,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Talk {
    /// The host it runs on.
    pub host: PortId,
    /// Everything that has arrived.
    pub received: Vec<u8>,
    /// How what arrives has ended, once it has.
    pub end: Option<End>,
    pub(super) socket: SocketHandle,
    program: Program,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Talk {
    pub(super) fn new(host: PortId, socket: SocketHandle, program: Program) -> Self {
        let outgoing = match &program {
            Program::Says(bytes) => bytes.clone(),
            Program::Echoes => Vec::new(),
        };
        Self {
            host,
            received: Vec::new(),
            end: None,
            socket,
            program,
            outgoing,
            sent: 0,
        }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Reads and writes what can be read and written.
    pub(super) fn advance(&mut self, socket: &mut Socket<'_>) {
        self.read(socket);
        if socket.can_send() {
            let taken = socket.send_slice(&self.outgoing[self.sent..]);
            self.sent += taken.expect("a socket that can send takes bytes");
        }
    }

    fn read(&mut self, socket: &mut Socket<'_>) {
        loop {
            match socket.recv(|bytes| (bytes.len(), bytes.to_vec())) {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(bytes) => self.take(&bytes),
                Err(RecvError::Finished) => {
                    self.end.get_or_insert(End::Finished);
                    return;
                }
                Err(RecvError::InvalidState) => {
                    if socket.state() == State::Closed {
                        self.end.get_or_insert(End::Aborted);
                    }
                    return;
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        if self.program == Program::Echoes {
            self.outgoing.extend_from_slice(bytes);
        }
    }
}
