//! Starting and ending keeper and engine.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pontoon_engine::config::OffloadMode;
use pontoon_engine::control::api::{Reply, Request, StatusView};
use pontoon_engine::io::control::transport::runtime_directory;
use pontoon_engine::io::control::{End, Stay, make_private};
use pontoon_engine::io::keeper::{PAUSE, Program, START_AGAIN, protocol};
use pontoon_engine::io::process::missing;

use crate::client::{Client, Failure};

/// Log of keeper and engine in the runtime directory.
const LOG: &str = "engine.log";
/// A log that is longer is begun anew, in bytes.
const MAX_LOG: u64 = 1 << 20;
/// Exit status of keeper and engine when another engine serves already; `EX_TEMPFAIL` of sysexits.h.
const RUNS_ALREADY: u8 = 75;
/// How long the engine may take to answer for the first time.
const START: Duration = Duration::from_secs(15);
/// What closes the files of others.
const CLOSE_RANGE: &str = "close_range(2)";
/// How often it is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// How long the processes may take to end.
const END: Duration = Duration::from_secs(10);

/// The engine that runs, or one that leaves when its last container does.
pub(crate) fn engine_for_container() -> Result<Client, Failure> {
    engine_that(Stay::WhileUsed)
}

/// The engine that runs, or one that stays until it is told to end.
pub(crate) fn engine_for_user() -> Result<Client, Failure> {
    engine_that(Stay::Always)
}

fn engine_that(stay: Stay) -> Result<Client, Failure> {
    if let Some(client) = Client::try_open()? {
        return Ok(client);
    }
    let end = Instant::now() + START;
    let mut keeper = start_keeper(stay)?;
    while Instant::now() < end {
        if let Some(client) = Client::try_open()? {
            return Ok(client);
        }
        if let Some(status) = keeper.try_wait()? {
            if status.code() != Some(i32::from(RUNS_ALREADY)) {
                let what = format!("the engine ended at once ({status})");
                return Err(Failure::own(&what, last_words()));
            }
            // Somebody else's was faster, and may have left since.
            keeper = start_keeper(stay)?;
        }
        thread::sleep(ASK_EVERY);
    }
    Err(Failure::own("the engine does not answer", last_words()))
}

fn start_keeper(stay: Stay) -> Result<Child, Failure> {
    let directory = runtime_directory();
    make_private(&directory)?;
    let path = directory.join(LOG);
    let log = open_log(&path).map_err(|error| Failure::own(&path.display().to_string(), error))?;
    let mut keeper = Command::new(own_program()?);
    keeper.arg("keeper");
    if stay == Stay::WhileUsed {
        keeper.arg("--leave");
    }
    keeper
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .current_dir("/");
    detach(&mut keeper);
    keeper
        .spawn()
        .map_err(|error| Failure::own("start the keeper", missing(CLOSE_RANGE, error)))
}

/// Opens the log to write at its end: another engine may write to it.
fn open_log(path: &Path) -> io::Result<File> {
    let log = File::options().create(true).append(true).open(path)?;
    if log.metadata()?.len() > MAX_LOG {
        log.set_len(0)?;
    }
    Ok(log)
}

/// The last line that keeper or engine has written.
fn last_words() -> String {
    let path = runtime_directory().join(LOG);
    let log = fs::read_to_string(&path).unwrap_or_default();
    match log.lines().last() {
        Some(line) => line.strip_prefix("pontoon: ").unwrap_or(line).to_owned(),
        None => format!("{} is empty", path.display()),
    }
}

/// Ends everything, and waits until it has.
pub(crate) fn shut_down() -> Result<u8, Failure> {
    let Some(client) = Client::try_open()? else {
        println!("no engine runs");
        return Ok(0);
    };
    let status = status(&client)?;
    if !status.ports.is_empty() {
        eprintln!("ending {} containers", status.ports.len());
    }
    // An engine that leaves with its last container may be gone before it can answer.
    let answer = client.ask(&Request::ShutDown);
    let end = Instant::now() + END;
    while is_running(status.engine.pid) || is_running(status.keeper.pid) {
        if Instant::now() > end {
            let what = format!("processes {} and {}", status.engine.pid, status.keeper.pid);
            answer?;
            return Err(Failure::own(&what, "do not end"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(0)
}

/// A process that has ended but has not been taken in by its parent runs no more.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with('Z'))
}

/// Swaps the engine's program, without harm to containers.
pub(crate) fn upgrade(program: Option<PathBuf>) -> Result<u8, Failure> {
    let program = match program {
        Some(path) => fs::canonicalize(&path)
            .map_err(|error| Failure::own(&path.display().to_string(), error))?,
        None => own_program()?,
    };
    let client = Client::open()?;
    let before = status(&client)?;
    client.ask(&Request::Upgrade { program })?;
    drop(client);
    let end = Instant::now() + START;
    while Instant::now() < end {
        if let Some(client) = Client::try_open()?
            && let Ok(now) = status(&client)
            && now.engine != before.engine
        {
            println!("{} (process {})", now.version, now.engine.pid);
            return Ok(0);
        }
        thread::sleep(ASK_EVERY);
    }
    Err(Failure::own("the new engine does not answer", last_words()))
}

fn status(client: &Client) -> Result<Box<StatusView>, Failure> {
    match client.ask(&Request::Status)? {
        Reply::Status(status) => Ok(status),
        _ => Err(Failure::unexpected()),
    }
}

/// `pontoon keeper`.
pub(crate) fn keeper(leave: bool) -> Result<u8, Failure> {
    raise_file_limit()?;
    let mut arguments = vec!["engine".into()];
    if leave {
        arguments.push("--leave".into());
    }
    let program = Program {
        path: own_program()?,
        arguments,
        version: ["engine", "--protocol"].map(Into::into).to_vec(),
        pause: runtime_directory().join(PAUSE),
    };
    let status = pontoon_engine::io::keeper::run(program)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(1))
}

/// Keeper and engine hold some descriptors for each container; the usual soft limit is for programs
/// that use select(2).
fn raise_file_limit() -> Result<(), Failure> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// `pontoon engine`.
pub(crate) fn engine(leave: bool, offload: OffloadMode) -> Result<u8, Failure> {
    give_up_rights()?;
    let stay = if leave { Stay::WhileUsed } else { Stay::Always };
    match pontoon_engine::io::control::run(&runtime_directory(), stay, offload) {
        Ok(End::InOrder) => Ok(0),
        Ok(End::ForAnother) => Ok(START_AGAIN),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(RUNS_ALREADY),
        Err(error) => Err(error.into()),
    }
}

/// `pontoon engine --protocol`: what a keeper asks a program before it starts engines with it.
pub(crate) fn engine_protocol() -> u8 {
    println!("{}", protocol::VERSION);
    0
}

/// The engine works on frames that anybody may send: it keeps no capability, and can gain none.
fn give_up_rights() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    drop_capabilities()
}

#[allow(unsafe_code, reason = "capset has no wrapper")]
fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`: two words of effective, permitted and inheritable bits.
    const VERSION: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let none = [[0_u32; 3]; 2];
    // SAFETY: both pointers are to live values of the layout that the call asks for.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Lets a process live on without its parent's terminal and files.
#[allow(unsafe_code, reason = "pre_exec runs between fork and exec")]
pub(crate) fn detach(command: &mut Command) {
    // SAFETY: `setsid` and `close_range` are async-signal-safe, and nothing else is called.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            let at_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
            close_range(at_exec)
        });
    }
}

/// Closes the files that this process was started with beyond the three standard ones: what outlives
/// its caller must not hold the caller's locks and pipes.
pub(crate) fn close_inherited() -> io::Result<()> {
    close_range(0).map_err(|error| missing(CLOSE_RANGE, error))
}

#[allow(unsafe_code, reason = "close_range has no wrapper")]
fn close_range(flags: libc::c_int) -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes no pointers; who calls owns no descriptor that is closed here.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
