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
use lock_postgres::DRIVER;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::PgConnection;
use tokio::task::block_in_place;

use crate::servers::Server;

/// Tells a process where the server is.
const URL: &str = "LOCK_STORM_POSTGRES_URL";

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

    /// Does something to the sessions of the processes, past all of them.
    async fn upset(&self, what: &str) -> Outcome {
        let url = self.server(|server| server.url());
        let mut psql = PgConnection::connect(&url).await?;
        let upset =
            format!("SELECT count({what}) FROM pg_stat_activity WHERE application_name = 'lock'");
        sqlx::raw_sql(AssertSqlSafe(upset)).execute(&mut psql).await?;
        Ok(())
    }
}

#[async_trait]
impl Fixture for One {
    fn name(&self) -> &str {
        "postgres"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        let url = env::var(URL).unwrap_or_else(|_| self.server(|server| server.url()));
        let url = format!("{url}?connect_timeout=1s");
        DRIVER.open(ConnectUrl::parse(&url)?).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        options.operation_timeout(Duration::from_secs(3))
    }

    async fn set_up(&self) -> Result<()> {
        let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
        let server = block_in_place(|| Server::start(&["max_connections=300"]));
        let mut lines = Vec::new();
        for _ in 0..2 {
            let proxy = Proxy::start(server.address()).await.map_err(broken)?;
            let url = server.url().replace(&server.address(), &proxy.address().to_string());
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
const STOPPED: &str = "stopped and restarted";
const FROZEN: &str = "frozen";
const BRIEFLY: &str = "frozen briefly";
const ENDED: &str = "all sessions ended";
const CANCELLED: &str = "all statements cancelled";

#[async_trait]
impl Target for One {
    fn blows(&self) -> Vec<&'static str> {
        vec![KILLED, STOPPED, FROZEN, BRIEFLY, ENDED, CANCELLED]
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        match blow {
            ENDED => self.upset("pg_terminate_backend(pid, 1000)").await?,
            // Each is back at once, so it takes many to hit what matters.
            CANCELLED => {
                for _ in 0..50 {
                    self.upset("pg_cancel_backend(pid)").await?;
                }
            }
            _ => self.server(|server| strike(server, blow, long)),
        }
        // Locks are the server's memory and end with it, and with their session, before a holder can know.
        Ok([KILLED, STOPPED, ENDED].contains(&blow).then(|| Forgot::since(from, keys)))
    }

    fn lines(&self) -> Vec<Line> {
        self.lock().as_ref().map(|running| running.lines.clone()).unwrap_or_default()
    }

    /// A statement that is given up, the end of its session, the connections that follow, the longest pause after
    /// failures.
    fn recovery(&self) -> Duration {
        Duration::from_secs(12)
    }
}

fn strike(server: &mut Server, blow: &str, long: Duration) {
    match blow {
        KILLED | STOPPED => {
            if blow == KILLED {
                server.kill()
            } else {
                server.stop()
            }
            sleep(long);
            server.restart();
        }
        _ => {
            server.freeze();
            sleep(if blow == BRIEFLY { long / 4 } else { long * 2 });
            server.thaw();
        }
    }
    server.await_ready();
}
