//! One server that saves each write before it answers, behind two lines.

use std::thread::sleep;
use std::time::Duration;

use conformance_tests::Outcome;
use conformance_tests::async_trait;
use conformance_tests::storm::Forgot;
use conformance_tests::storm::Line;
use conformance_tests::storm::Target;
use lock_core::Clock;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::servers::Server;

const KEEPING: &str = "killed and restarted with its data";
const FORGETTING: &str = "killed and restarted without its data";
const FROZEN: &str = "frozen";
const PAUSED: &str = "pauses its clients";
const PAUSED_WRITES: &str = "pauses writes";
const SCRIPTS: &str = "forgets scripts";
const CUT: &str = "ends all connections";

#[async_trait]
impl Target for Server {
    const NAME: &str = "redis";
    const BLOWS: &[&str] = &[KEEPING, FORGETTING, FROZEN, PAUSED, PAUSED_WRITES, SCRIPTS, CUT];
    const RECOVERY: Duration = crate::RECOVERY;

    async fn start() -> Outcome<Self> {
        Ok(Self::start(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]))
    }

    fn url(&self) -> String {
        self.url()
    }

    async fn lines(&self) -> Outcome<Vec<Line>> {
        Line::two(&self.name(), |line| format!("redis://{line}")).await
    }

    async fn connect(url: &str) -> Result<SharedBackend> {
        crate::connect(url).await
    }

    fn options(options: EngineOptions) -> EngineOptions {
        crate::options(options)
    }

    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        let millis = long.as_millis();
        match blow {
            KEEPING | FORGETTING => {
                self.kill();
                if blow == FORGETTING {
                    self.lose_data();
                }
                sleep(long / 4);
                self.restart();
            }
            FROZEN => {
                self.freeze();
                sleep(long * 2);
                self.thaw();
            }
            PAUSED | PAUSED_WRITES => {
                let which = if blow == PAUSED { "ALL" } else { "WRITE" };
                self.command(&format!("CLIENT PAUSE {millis} {which}"));
                sleep(long);
            }
            SCRIPTS => drop(self.command("SCRIPT FLUSH")),
            _ => drop(self.command("CLIENT KILL TYPE normal")),
        }
        Ok((blow == FORGETTING).then(|| Forgot::since(from, keys)))
    }
}
