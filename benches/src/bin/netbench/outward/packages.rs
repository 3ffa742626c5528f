//! The peers' programs, fetched from Debian into a directory of our own: nothing is installed on
//! the machine, and everybody measures the same builds.

use super::PeerName;
use crate::compare::progress;
use crate::error::{Context, Error, Result};
use crate::process::{finish, run, spawn, succeed};
use nix::unistd::geteuid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What is fetched: the peers, and the libraries that slirp4netns needs beside the C library.
const PACKAGES: [&str; 8] = [
    "slirp4netns",
    "libslirp0",
    "libglib2.0-0",
    "libpcre2-8-0",
    "libseccomp2",
    "passt",
    "rootlesskit",
    "docker.io",
];

/// Where programs stand in a package.
const PROGRAM_DIRS: [&str; 2] = ["usr/bin", "usr/sbin"];

/// File that lists what was unpacked; it is written last.
const LIST: &str = "packages";

/// How long fetching 40 MB may take.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The unpacked packages.
pub(crate) struct Packages {
    root: PathBuf,
    names: Vec<String>,
}

/// Where packages are kept unless the command line says otherwise.
pub(crate) fn default_cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(std::env::temp_dir).join("netbench")
}

impl Packages {
    /// Fetches and unpacks what is not in the cache yet. Needs the network the first time, and
    /// only when one of the peers comes from a package.
    ///
    /// # Errors
    /// [`Error::Unfetched`] when apt-get cannot fetch, with the advice that fits the user.
    pub(crate) fn provide(cache: &Path, peers: &[PeerName]) -> Result<Self> {
        if !peers.iter().any(|peer| peer.is_packaged()) {
            return Ok(Self {
                root: cache.to_owned(),
                names: Vec::new(),
            });
        }
        let list = cache.join(LIST);
        if !list.is_file() {
            fs::create_dir_all(cache).context(format!(
                "making {} (choose another directory by --cache)",
                cache.display()
            ))?;
            fetch(cache).map_err(|error| Error::Unfetched {
                cache: cache.display().to_string(),
                reason: error.to_string(),
            })?;
            fs::write(&list, unpack(cache)?.join("\n"))
                .context(format!("writing {}", list.display()))?;
        }
        let text = fs::read_to_string(&list).context(format!("reading {}", list.display()))?;
        Ok(Self {
            root: cache.to_owned(),
            names: text.lines().map(str::to_owned).collect(),
        })
    }

    /// What was unpacked, each as `name_version_architecture`.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The path of a program.
    ///
    /// # Errors
    /// [`Error::Unfetched`] when the packages do not hold it.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        PROGRAM_DIRS
            .iter()
            .map(|dir| self.root.join(dir).join(name))
            .find(|path| path.is_file())
            .ok_or_else(|| Error::Unfetched {
                cache: self.root.display().to_string(),
                reason: format!("no {name} in it: remove the directory to fetch again"),
            })
    }

    /// Where the programs' libraries are.
    pub(crate) fn libraries(&self) -> PathBuf {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        self.root.join("usr/lib").join(triplet)
    }
}

fn fetch(cache: &Path) -> Result<()> {
    progress(&format!("fetching packages into {}", cache.display()));
    if geteuid().is_root() {
        apt_get(cache, &["update"])?;
    }
    apt_get(cache, &[&["download"][..], &PACKAGES].concat())
}

fn apt_get(cache: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).current_dir(cache);
    let child = spawn(&mut command)?;
    succeed(&command, finish(&command, child, FETCH_LIMIT)?).map(drop)
}

/// Unpacks every fetched file and removes it; answers their names.
fn unpack(cache: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(cache).context(format!("listing {}", cache.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    files.sort();
    let stem = |file: &PathBuf| Some(file.file_stem()?.to_string_lossy().into_owned());
    let names = files.iter().filter_map(stem).collect();
    for file in files {
        run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(cache))?;
        fs::remove_file(&file).context(format!("removing {}", file.display()))?;
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_needs_no_packages() {
        let nowhere = Path::new("/nowhere");
        let packages = Packages::provide(nowhere, &[PeerName::KernelBridge]).unwrap();
        assert!(packages.names().is_empty());
        assert!(packages.program("pasta").is_err());
    }

    #[test]
    fn directory_that_cannot_be_made_is_named_with_advice() {
        let Err(error) = Packages::provide(Path::new("/proc/netbench"), &[PeerName::Pasta]) else {
            panic!("packages in /proc")
        };
        let text = error.to_string();
        assert!(
            text.contains("/proc/netbench") && text.contains("--cache"),
            "{text}"
        );
    }
}
