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
use lock_mysql::DRIVER;

use crate::servers::Cli;
use crate::servers::Server;

fn main() -> ExitCode {
    Storms::default().rare::<Server>().run()
}

const KILLED: &str = "killed and restarted";
const FROZEN: &str = "frozen";
const BRIEFLY: &str = "frozen briefly";
const ENDED: &str = "all connections killed";
const CANCELLED: &str = "all statements killed";
const DELETED: &str = "all rows deleted";

#[async_trait]
impl Target for Server {
    const NAME: &str = "mysql";
    const BLOWS: &[&str] = &[KILLED, FROZEN, BRIEFLY, ENDED, CANCELLED, DELETED];

    /// A statement that is given up, the connection that follows, the longest pause after failures.
    const RECOVERY: Duration = Duration::from_secs(8);

    async fn start() -> Outcome<Self> {
        Ok(Self::start(&["--max-connections=1000"]))
    }

    fn url(&self) -> String {
        self.url()
    }

    async fn lines(&self) -> Outcome<Vec<Line>> {
        let address = format!("127.0.0.1:{}", self.port);
        Line::two(&address, |line| self.url().replace(&address, &line)).await
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(url)?).await
    }

    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        match blow {
            KILLED => {
                self.kill();
                sleep(long);
                self.restart();
            }
            FROZEN | BRIEFLY => {
                self.freeze();
                sleep(if blow == BRIEFLY { long / 4 } else { long * 2 });
                self.thaw();
            }
            ENDED => end(self, "CONNECTION").await,
            // Each is back at once, so it takes many to hit what matters.
            CANCELLED => {
                for _ in 0..20 {
                    end(self, "QUERY").await;
                }
            }
            _ => forget(self).await?,
        }
        // What was written outlives the server's process.
        Ok((blow == DELETED).then(|| Forgot::since(from, keys)))
    }
}

/// Kills statements or connections of the processes.
async fn end(server: &Server, what: &str) {
    let mut cli = Cli::connect(&server.url()).await;
    let all = "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
               AND db = DATABASE()";
    for row in cli.rows(all).await {
        // It may have ended by itself.
        drop(cli.run(&format!("KILL {what} {}", row[0])).await);
    }
}

async fn forget(server: &Server) -> Outcome {
    let mut cli = Cli::connect(&server.url()).await;
    for table in ["distributed_locks", "distributed_locks_claims"] {
        cli.run(&format!("DELETE FROM {table}")).await?;
    }
    Ok(())
}
