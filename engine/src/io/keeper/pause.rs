//! What clients can find out while no engine runs: when the next one is started.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Name of the file in the runtime directory. It is there while the keeper waits, and no longer.
pub const PAUSE: &str = "pause.json";

/// The time between an engine that has died and the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// How many engines of this keeper's have died.
    deaths: u32,
    /// What the last one has died of.
    last_end: String,
    /// When the next one is started, in milliseconds since the machine was.
    due: u64,
}

impl Pause {
    /// One that begins now.
    ///
    /// # Errors
    /// The kernel does not tell the time.
    pub(super) fn begin(deaths: u32, last_end: &str, wait: Duration) -> io::Result<Self> {
        let due = uptime()? + wait;
        Ok(Self {
            deaths,
            last_end: last_end.to_owned(),
            due: due.as_millis() as u64,
        })
    }

    /// Lets clients know.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn tell(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }

    /// The pause under way, if there is one. A file that was left behind is about none: its time is over.
    pub fn read(path: &Path) -> Option<Self> {
        let pause: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (!pause.left().is_zero()).then_some(pause)
    }

    /// How long it still lasts.
    fn left(&self) -> Duration {
        let now = uptime().unwrap_or(Duration::MAX);
        Duration::from_millis(self.due).saturating_sub(now)
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.deaths {
            1 => f.write_str("the engine has died once")?,
            many => write!(f, "the engine has died {many} times")?,
        }
        let seconds = self.left().as_millis().div_ceil(1_000);
        write!(
            f,
            ", the last time of {}; the next start is in {seconds} s",
            self.last_end
        )
    }
}

/// Time since the machine was started (proc_uptime(5)).
fn uptime() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_while_it_lasts() {
        let path = std::env::temp_dir().join(format!("pt-pause-{}", std::process::id()));
        assert_eq!(Pause::read(&path), None);
        let pause = Pause::begin(3, "signal: 9 (SIGKILL)", Duration::from_secs(600)).unwrap();
        pause.tell(&path).unwrap();
        assert_eq!(Pause::read(&path), Some(pause.clone()));
        let said = pause.to_string();
        let (whole, wait) = said.split_once("; the next start is in ").unwrap();
        assert_eq!(
            whole,
            "the engine has died 3 times, the last time of signal: 9 (SIGKILL)"
        );
        let seconds: u64 = wait.strip_suffix(" s").unwrap().parse().unwrap();
        assert!((500..=600).contains(&seconds), "{said}");
        Pause::begin(3, "", Duration::ZERO)
            .unwrap()
            .tell(&path)
            .unwrap();
        assert_eq!(Pause::read(&path), None, "it is over");
        fs::write(&path, "{").unwrap();
        assert_eq!(Pause::read(&path), None);
        fs::remove_file(path).unwrap();
    }
}
