//! An instance of one of the systems: this program, started once more, which can be killed and frozen.

use std::env;
use std::fmt::Display;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use rustix::process::set_parent_process_death_signal;
use tokio::sync::mpsc;

use crate::story::Result;

/// Another process and what it prints. It is killed when this is dropped, and ends when this process does.
pub(crate) struct Instance {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Instance {
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-c is for us.
        command.process_group(0);
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("no pipe from the instance")?;
        let (send, lines) = mpsc::unbounded_channel();
        thread::spawn(move || {
            let said = BufReader::new(out).lines().map_while(std::result::Result::ok);
            said.into_iter().try_for_each(|line| send.send(line))
        });
        Ok(Self { child, lines })
    }

    /// Returns the next line that it prints.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let line = tokio::time::timeout(Duration::from_secs(20), self.lines.recv()).await?;
        line.ok_or_else(|| "an instance has ended, and says why above".into())
    }

    /// Returns what it has printed by now.
    pub(crate) fn lines_so_far(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.lines.try_recv().ok()).collect()
    }

    /// Says a line to it.
    pub(crate) fn say(&mut self, line: &str) -> Result {
        let stdin = self.child.stdin.as_mut().ok_or("the instance does not listen")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Ends it as a power cut would, and returns what it had printed.
    pub(crate) async fn kill(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        let mut lines = Vec::new();
        while let Some(line) = self.lines.recv().await {
            lines.push(line);
        }
        Ok(lines)
    }

    pub(crate) fn freeze(&self) -> Result {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    pub(crate) fn thaw(&self) -> Result {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // One that has ended already cannot be killed; it is reaped all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says a line to whoever has started us.
pub(crate) fn say(line: impl Display) {
    // Nobody listens any more: we are about to end.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Hears what whoever has started us says; we end when that ends, also if we are frozen.
pub(crate) fn hear() -> mpsc::UnboundedReceiver<String> {
    if !std::io::stdin().is_terminal() {
        // An instance that a storm has started; without this it ends with its input.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    let (send, said) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            let _ = send.send(line);
        }
        std::process::exit(0);
    });
    said
}
