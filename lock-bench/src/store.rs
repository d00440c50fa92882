//! A store of one lane, and what its server says of itself.

use std::future::Future;
use std::ops::Sub;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::failure::Outcome;

/// How long a server may take to start on a machine that is very busy.
const START: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A store, or a part of one, that nobody else uses. Dropping it ends the server that was started for it.
pub(crate) struct Store {
    pub(crate) url: String,
    #[expect(dead_code, reason = "it is there to be dropped")]
    pub(crate) server: Option<Server>,
}

/// A store that is being made.
pub(crate) type Making = Pin<Box<dyn Future<Output = Outcome<Store>> + Send>>;

/// A store that needs no server of ours.
pub(crate) fn made(url: String) -> Making {
    Box::pin(async { Ok(Store { url, server: None }) })
}

/// A connection of the benchmark's own, to ask the server what no client can tell.
#[async_trait]
pub(crate) trait Probe: Send + Sync {
    /// Makes the shortest round trip that a release or a grant could make.
    async fn ping(&self) -> Outcome;

    /// Tells what the server has carried out so far.
    async fn load(&self) -> Outcome<Load>;
}

/// A probe that is being opened.
pub(crate) type Probing = Pin<Box<dyn Future<Output = Outcome<Box<dyn Probe>>> + Send>>;

/// What a server has carried out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Every command or statement, those within scripts too.
    pub(crate) commands: u64,
    /// Scripts.
    pub(crate) scripts: u64,
}

/// What came since an earlier reading.
impl Sub for Load {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { commands: self.commands - earlier.commands, scripts: self.scripts - earlier.scripts }
    }
}

/// A server that ends with this value, and with us if we are killed.
pub(crate) struct Server(Child);

impl Server {
    /// Starts `program` in `folder`, its output in a file there.
    pub(crate) fn start(program: &str, arguments: &[&str], folder: &Path) -> Outcome<Self> {
        let log = std::fs::File::create(log(folder))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::new(format!("{program} cannot be started: {error}")))?;
        Ok(Self(child))
    }

    /// Repeats `connect` until it succeeds.
    pub(crate) async fn ready<T, F>(&mut self, folder: &Path, connect: impl Fn() -> F) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>>,
    {
        let end = Instant::now() + START;
        loop {
            // What listens may be no server of ours, and never answer.
            let why = match timeout(ANSWER, connect()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(why)) => why,
                Err(why) => why.into(),
            };
            if let Some(status) = self.0.try_wait()? {
                let said = std::fs::read_to_string(log(folder)).unwrap_or_default();
                return Err(Failure::new(format!("the server ended with {status}: {said}")));
            }
            if Instant::now() > end {
                return Err(why);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("lock-bench: cannot stop process {}: {error}", self.0.id());
        }
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}
