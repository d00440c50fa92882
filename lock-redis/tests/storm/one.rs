//! One server that saves each write before it answers, behind two lines.

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
use conformance_tests::storm::Target;
use lock_core::Clock;
use lock_core::EngineOptions;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use tokio::task::block_in_place;

use crate::servers::Server;

#[derive(Default)]
pub(crate) struct One(Mutex<Option<Running>>);

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
}

#[async_trait]
impl Fixture for One {
    fn name(&self) -> &str {
        "redis"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        crate::connect(|| self.server(|server| server.url())).await
    }

    fn options(&self, options: EngineOptions) -> EngineOptions {
        crate::options(options)
    }

    async fn set_up(&self) -> Result<()> {
        let saves = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let server = block_in_place(|| Server::start(&saves));
        let mut lines = Vec::new();
        for _ in 0..2 {
            let broken = |error| Error::new(ErrorKind::Unavailable, "no proxy").with_source(error);
            let proxy = Proxy::start(format!("127.0.0.1:{}", server.port)).await.map_err(broken)?;
            let url = format!("redis://{}", proxy.address());
            let environment = vec![(crate::URL.to_owned(), url)];
            lines.push(Line { link: Arc::new(proxy), environment });
        }
        *self.lock() = Some(Running { server, lines });
        Ok(())
    }

    async fn tear_down(&self) {
        drop(self.lock().take());
    }
}

const KEEPING: &str = "killed and restarted with its data";
const FORGETTING: &str = "killed and restarted without its data";
const FROZEN: &str = "frozen";
const PAUSED: &str = "pauses its clients";
const PAUSED_WRITES: &str = "pauses writes";
const SCRIPTS: &str = "forgets scripts";
const CUT: &str = "ends all connections";

#[async_trait]
impl Target for One {
    fn blows(&self) -> Vec<&'static str> {
        vec![KEEPING, FORGETTING, FROZEN, PAUSED, PAUSED_WRITES, SCRIPTS, CUT]
    }

    async fn strike(
        &self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>> {
        let from = Clock::system().now();
        let millis = long.as_millis();
        self.server(|server| match blow {
            KEEPING | FORGETTING => {
                server.kill();
                if blow == FORGETTING {
                    server.lose_data();
                }
                sleep(long / 4);
                server.restart();
            }
            FROZEN => {
                server.freeze();
                sleep(long * 2);
                server.thaw();
            }
            PAUSED | PAUSED_WRITES => {
                let which = if blow == PAUSED { "ALL" } else { "WRITE" };
                server.command(&format!("CLIENT PAUSE {millis} {which}"));
                sleep(long);
            }
            SCRIPTS => drop(server.command("SCRIPT FLUSH")),
            _ => drop(server.command("CLIENT KILL TYPE normal")),
        });
        Ok((blow == FORGETTING).then(|| Forgot::since(from, keys)))
    }

    fn lines(&self) -> Vec<Line> {
        self.lock().as_ref().map(|running| running.lines.clone()).unwrap_or_default()
    }

    fn recovery(&self) -> Duration {
        crate::RECOVERY
    }
}
