//! A server that runs, and what can be done to it.

use std::fmt;
use std::fs::Permissions;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use tempfile::TempDir;

use crate::Error;
use crate::Kind;
use crate::Result;
use crate::process::LOOK;
use crate::process::logged;
use crate::process::stop;

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is served, once what it needs is made.
pub(crate) struct Plan {
    pub(crate) command: Command,
    /// What it takes for an order to end in good order.
    pub(crate) end: Signal,
    pub(crate) url: String,
    /// Tells whether it serves.
    pub(crate) ready: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A server that we have started. Dropping it stops it and removes its folder.
pub struct Server {
    name: &'static str,
    plan: Plan,
    child: Child,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start(kind: &Kind, program: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("lock-{}-", kind.name)).tempdir()?;
        // A server may run as another user, who has to get through.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let mut plan = (kind.plan)(program, folder.path())?;
        logged(&mut plan.command, folder.path())?;
        // Ctrl-c is for us, who stop the server once what uses it has ended.
        plan.command.current_dir(folder.path()).process_group(0);
        let child = spawn(&mut plan.command)?;
        let mut server = Self { name: kind.name, plan, child, folder };
        server.await_ready()?;
        Ok(server)
    }

    /// Returns how locks are had there.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.plan.url
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    ///
    /// If it cannot be signalled.
    pub fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it anew after it was killed, in the same place.
    ///
    /// # Errors
    ///
    /// If it does not serve within a minute.
    pub fn restart(&mut self) -> Result {
        self.child = spawn(&mut self.plan.command)?;
        self.await_ready()
    }

    /// Lets it answer no more, with its connections open.
    ///
    /// # Errors
    ///
    /// If it cannot be signalled.
    pub fn freeze(&self) -> Result {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// If it cannot be signalled.
    pub fn thaw(&self) -> Result {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result {
        kill_process(Pid::from_child(&self.child), signal).map_err(|error| Error(error.to_string()))
    }

    fn await_ready(&mut self) -> Result {
        let begun = Instant::now();
        while !(self.plan.ready)() {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.with_log(&format!("it ended at once: {status}")));
            }
            if begun.elapsed() > PATIENCE {
                return Err(self.with_log("it does not serve after a minute"));
            }
            sleep(LOOK);
        }
        Ok(())
    }

    /// Adds the end of what it said to why it failed.
    fn with_log(&self, why: &str) -> Error {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join("\n  ");
        Error(format!("{}: {why}\n  {end}", self.name))
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| Error(format!("{:?}: {error}", command.get_program())))
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that is frozen hears nothing else; one that has ended already needs neither.
        let _ = self.thaw();
        let _ = stop(&mut self.child, self.plan.end);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.plan.url).finish_non_exhaustive()
    }
}

/// Sends a few words to a port of this host, and returns all that comes back before it closes.
pub(crate) fn ask(port: u16, words: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(words.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
