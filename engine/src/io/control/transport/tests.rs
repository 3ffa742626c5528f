use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

fn listening(test: &str) -> (PathBuf, Listener) {
    let directory = std::env::temp_dir().join(format!("pt-{test}-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let listener = Listener::open(&directory).unwrap();
    (directory, listener)
}

#[test]
fn nobody_talks_to_an_engine_of_another_user() {
    let (directory, _listener) = listening("trust");
    let own = nix::unistd::getuid().as_raw();
    assert!(Connection::open_as(&directory, own).is_ok());
    let error = Connection::open_as(&directory, own + 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn who_is_refused_is_told_whenever_it_asks() {
    let (directory, listener) = listening("refused");
    for early in [true, false] {
        let client = Connection::open(&directory).unwrap();
        if early {
            client.send(&"heard by nobody", &[]).unwrap();
        }
        let server = listener.accept().unwrap();
        server.refuse(&"not now");
        drop(server);
        let answer = client.ask::<String>(&"question", &[], MAX_REPLY).unwrap();
        assert_eq!(answer.unwrap().0, "not now");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_client_cannot_fill_the_engine_with_descriptors() {
    let (directory, listener) = listening("fds");
    let client = Connection::open(&directory).unwrap();
    let server = listener.accept().unwrap();
    let fds = [client.fd.as_fd(); MAX_FDS];
    for _ in 0..2 {
        send_piece(client.fd.as_fd(), &[IoSlice::new(&[1])], &fds).unwrap();
    }
    let error = server.receive::<String>(MAX_REQUEST).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn descriptors_of_a_refused_request_are_closed() {
    let (directory, listener) = listening("closed");
    let client = Connection::open(&directory).unwrap();
    let server = listener.accept().unwrap();
    let (kept, sent) = io::pipe().unwrap();
    let parts = [IoSlice::new(&[0]), IoSlice::new(b"5")];
    send_piece(client.fd.as_fd(), &parts, &[sent.as_fd(); MAX_FDS + 1]).unwrap();
    drop(sent);
    let error = server.receive::<u8>(MAX_REQUEST).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    let mut fds = [PollFd::new(kept.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    assert_eq!(fds[0].revents(), Some(PollFlags::POLLHUP), "nobody writes");
    std::fs::remove_dir_all(directory).unwrap();
}
