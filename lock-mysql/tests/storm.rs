//! Random faults of a server, with `LOCK_TEST_FULL`, or if a length is given.

#![allow(clippy::unwrap_used, reason = "a server that cannot be struck must end the storm")]
#![allow(clippy::disallowed_methods, reason = "a fault lasts as long as it is told")]

mod servers;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Fixture;
use conformance_tests::Outcome;
use conformance_tests::Proxy;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::SECONDS;
use conformance_tests::storm::Target;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_mysql::DRIVER;
use tokio::task::block_in_place;

use crate::servers::Cli;
use crate::servers::Server;

/// Tells a process where the server is.
const URL: &str = "LOCK_STORM_MYSQL_URL";

fn main() -> ExitCode {
    let is = |name| env::var_os(name).is_some();
    let mut targets: Vec<Arc<dyn Target>> = Vec::new();
    if is("LOCK_TEST_FULL") || is(SECONDS) {
        targets.push(Arc::new(One::default()));
    }
    conformance_tests::storm::run(targets)
}

/// One server, behind two lines.
#[derive(Default)]
struct One(Mutex<Option<Running>>);

struct Running {
    server: Server,
    lines: Vec<Line>,
}

impl One {
    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server<T>(&self, act: impl FnOnce(&mut Server) -> T) -> T {
        block_in_place(|| act(&mut self.lock().as_mut().unwrap().server))
    }

    async fn cli(&self) -> Cli {
        Cli::connect(&self.server(|server| server.url())).await
    }

    /// Kills statements or connections of the processes.
    async fn kill(&self, what: &str) {
        let mut cli = self.cli().await;
        let all = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
                   AND db = DATABASE()";
        for row in cli.rows(all).await {
            // It may have ended by itself.
            drop(cli.run(&format!("KILL {what} {}", row[0])).await);
        }
    }

    async fn forget(&self) -> Outcome {
        let mut cli = self.cli().await;
        for table in ["distributed_locks", "distributed_locks_claims"] {
            cli.run(&format!("DELETE FROM {table}")).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Fixture for One {
    fn name(&self) -> &str {
        "mysql"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let url = env::var(URL).unwrap_or_else(|_| self.server(|server| server.url()));
        DRIVER.open(ConnectUrl::parse(&url)?).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        options.operation_timeout(Duration::from_secs(3))
    }

    async fn set_up(&self) -> Result<()> {
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let server = block_in_place(|| Server::start(&["--max-connections=1000"]));
        let (mut lines, address) = (Vec::new(), format!("127.0.0.1:{}", server.port));
        for _ in 0..2 {
            let proxy = Proxy::start(address.clone()).await.map_err(broken)?;
            let url = server.url().replace(&address, &proxy.address().to_string());
            lines.push(Line { link: Arc::new(proxy), environment: vec![(URL.to_owned(), url)] });
        }
        *self.lock() = Some(Running { server, lines });
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.lock().take());
    }
}

const KILLED: &str = "killed and restarted";
const FROZEN: &str = "frozen";
const BRIEFLY: &str = "frozen briefly";
const ENDED: &str = "all connections killed";
const CANCELLED: &str = "all statements killed";
const DELETED: &str = "all rows deleted";

#[async_trait]
impl Target for One {
    fn blows(&self) -> Vec<&'static str> {
        vec![KILLED, FROZEN, BRIEFLY, ENDED, CANCELLED, DELETED]
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        match blow {
            ENDED => self.kill("CONNECTION").await,
            // Each is back at once, so it takes many to hit what matters.
            CANCELLED => {
                for _ in 0..20 {
                    self.kill("QUERY").await;
                }
            }
            DELETED => self.forget().await?,
            _ => self.server(|server| strike(server, blow, long)),
        }
        // What was written outlives the server's process.
        Ok((blow == DELETED).then(|| Forgot::since(from, keys)))
    }

    fn lines(&self) -> Vec<Line> {
        self.lock().as_ref().map(|running| running.lines.clone()).unwrap_or_default()
    }

    /// A statement that is given up, the connection that follows, the longest pause after failures.
    fn recovery(&self) -> Duration {
        Duration::from_secs(8)
    }
}

fn strike(server: &mut Server, blow: &str, long: Duration) {
    if blow == KILLED {
        server.kill();
        sleep(long);
        return server.restart();
    }
    server.freeze();
    sleep(if blow == BRIEFLY { long / 4 } else { long * 2 });
    server.thaw();
}
