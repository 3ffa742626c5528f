//! The host's resolvers, as `/etc/resolv.conf` names them, followed when it changes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use pontoon_names::ResolvConf;

use crate::io::worker::WorkerHandle;

/// The file that names them.
const FILE: &str = "/etc/resolv.conf";
/// Bytes of it that are read. Our choice: more than anybody writes.
const LONGEST: u64 = 64 << 10;

/// Tells the worker whom to ask, now and whenever the file has changed.
///
/// # Errors
/// No thread can be had. Where the file cannot be watched, what it says now counts for good.
pub(super) fn follow(worker: WorkerHandle) -> io::Result<()> {
    let followed = Followed::watch(Path::new(FILE));
    tell(&worker);
    match followed {
        Ok(followed) => {
            let thread = thread::Builder::new().name("pontoon-resolvers".to_owned());
            thread.spawn(move || followed.run(&worker)).map(drop)
        }
        Err(errno) => {
            log!("{FILE} is not followed when it changes: {errno}");
            Ok(())
        }
    }
}

fn tell(worker: &WorkerHandle) {
    let upstreams = upstreams(Path::new(FILE));
    // A worker that has ended asks nobody.
    let _ = worker.call(move |w, _| w.names().set_upstreams(&upstreams));
}

fn upstreams(path: &Path) -> Vec<SocketAddr> {
    let mut text = Vec::new();
    // A file that is not there says as much as an empty one (resolv.conf(5)).
    let _ = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    let scope = |name: &str| if_nametoindex(name).ok();
    ResolvConf::parse(&String::from_utf8_lossy(&text), scope).upstreams()
}

/// A file that is watched: it itself, which may be written in place, and the directories in which it
/// and what it leads to may be replaced.
struct Followed {
    path: PathBuf,
    inotify: Inotify,
    names: BTreeSet<OsString>,
}

impl Followed {
    fn watch(path: &Path) -> Result<Self, Errno> {
        let mut followed = Self {
            path: path.to_owned(),
            inotify: Inotify::init(InitFlags::IN_CLOEXEC)?,
            names: BTreeSet::new(),
        };
        followed.renew()?;
        Ok(followed)
    }

    /// Watches what the path leads to now. What it led to before may be heard of once more.
    fn renew(&mut self) -> Result<(), Errno> {
        let replaced = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE;
        self.names.clear();
        for path in links(&self.path) {
            if let (Some(directory), Some(name)) = (path.parent(), path.file_name()) {
                self.names.insert(name.to_owned());
                // A link may lead nowhere.
                let _ = self.inotify.add_watch(directory, replaced);
            }
        }
        match self
            .inotify
            .add_watch(&self.path, AddWatchFlags::IN_CLOSE_WRITE)
        {
            // It may be there later: its directory is watched.
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        let name = event.name.as_ref();
        name.is_none_or(|name| self.names.contains(name))
    }

    fn run(mut self, worker: &WorkerHandle) {
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(errno) => return log!("{FILE} is not followed any more: {errno}"),
            };
            if events.iter().any(|event| self.concerns(event)) {
                // What cannot be watched now has been read at least.
                let _ = self.renew();
                tell(worker);
            }
        }
    }
}

/// A path and everything that it leads to by links, which may be replaced one by one.
fn links(path: &Path) -> Vec<PathBuf> {
    /// Linux `MAXSYMLINKS`.
    const MOST: usize = 40;
    let mut all = vec![path.to_owned()];
    while let Some(last) = all.last()
        && all.len() <= MOST
        && let Ok(target) = fs::read_link(last)
    {
        let next = last.parent().map(|directory| directory.join(&target));
        all.push(next.unwrap_or(target));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_one_by_one() {
        let place = std::env::temp_dir().join(format!("pt-links-{}", std::process::id()));
        fs::create_dir_all(place.join("run")).unwrap();
        fs::write(place.join("run/stub"), "nameserver 192.0.2.7\n").unwrap();
        std::os::unix::fs::symlink("run/stub", place.join("resolv.conf")).unwrap();

        let (found, asked) = (
            links(&place.join("resolv.conf")),
            upstreams(&place.join("resolv.conf")),
        );

        fs::remove_dir_all(&place).unwrap();
        assert_eq!(found, [place.join("resolv.conf"), place.join("run/stub")]);
        assert_eq!(asked, ["192.0.2.7:53".parse().unwrap()]);
    }

    #[test]
    fn a_file_that_is_not_there_means_the_machine_itself() {
        let nowhere = Path::new("/nonexistent/resolv.conf");
        assert_eq!(upstreams(nowhere), ["127.0.0.1:53".parse().unwrap()]);
    }
}
