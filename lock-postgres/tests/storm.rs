//! Random faults of a server, with `LOCK_TEST_FULL`, or if a length is given.

#![allow(clippy::unwrap_used, reason = "a server that cannot be struck must end the storm")]
#![allow(clippy::disallowed_methods, reason = "a fault lasts as long as it is told")]

mod servers;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Outcome;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::Storms;
use conformance_tests::storm::Target;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_postgres::DRIVER;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::PgConnection;

use crate::servers::Server;

fn main() -> ExitCode {
    Storms::default().rare::<Server>().run()
}

const KILLED: &str = "killed and restarted";
const STOPPED: &str = "stopped and restarted";
const FROZEN: &str = "frozen";
const BRIEFLY: &str = "frozen briefly";
const ENDED: &str = "all sessions ended";
const CANCELLED: &str = "all statements cancelled";

#[async_trait]
impl Target for Server {
    const NAME: &str = "postgres";
    const BLOWS: &[&str] = &[KILLED, STOPPED, FROZEN, BRIEFLY, ENDED, CANCELLED];

    /// A statement that is given up, the end of its session, the connections that follow, the longest pause after
    /// failures.
    const RECOVERY: Duration = Duration::from_secs(12);

    async fn start() -> Outcome<Self> {
        Ok(Self::start(&["max_connections=300"]))
    }

    fn url(&self) -> String {
        self.url()
    }

    async fn lines(&self) -> Outcome<Vec<Line>> {
        Line::two(&self.address(), |line| self.url().replace(&self.address(), &line)).await
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(&format!("{url}?connect_timeout=1s"))?).await
    }

    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        match blow {
            KILLED | STOPPED => {
                if blow == KILLED {
                    self.kill();
                } else {
                    self.stop();
                }
                sleep(long);
                self.restart();
            }
            FROZEN | BRIEFLY => {
                self.freeze();
                sleep(if blow == BRIEFLY { long / 4 } else { long * 2 });
                self.thaw();
            }
            ENDED => upset(self, "pg_terminate_backend(pid, 1000)").await?,
            // Each is back at once, so it takes many to hit what matters.
            _ => {
                for _ in 0..50 {
                    upset(self, "pg_cancel_backend(pid)").await?;
                }
            }
        }
        self.await_ready();
        // Locks are the server's memory and end with it, and with their session, before a holder can know.
        Ok([KILLED, STOPPED, ENDED].contains(&blow).then(|| Forgot::since(from, keys)))
    }
}

/// Does something to the sessions of the processes, past all of them.
async fn upset(server: &Server, what: &str) -> Outcome {
    let mut psql = PgConnection::connect(&server.url()).await?;
    let upset =
        format!("SELECT count({what}) FROM pg_stat_activity WHERE application_name = 'lock'");
    sqlx::raw_sql(AssertSqlSafe(upset)).execute(&mut psql).await?;
    Ok(())
}
