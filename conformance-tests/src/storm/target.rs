//! What a storm has to know of a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lock_core::BootInstant;
use lock_core::Clock;
use lock_core::EngineOptions;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::Link;
use crate::Outcome;
use crate::Proxy;

/// A store that can be hurt while processes use it. It runs from its storm's beginning to its end, and for that
/// storm alone, as everybody else would suffer.
///
/// [`start`](Self::start), [`strike`](Self::strike) and [`mend`](Self::mend) have a thread to themselves and may
/// block it. No future of theirs is dropped before it ends.
#[async_trait]
pub trait Target: Sized + Send + Sync + 'static {
    /// Names the storm.
    const NAME: &str;

    /// Names what can be done to the store. Each is as likely as the others.
    const BLOWS: &[&str];

    /// Within which time of the end of all faults a waiting client has surely asked the store again.
    const RECOVERY: Duration;

    /// Starts the store.
    ///
    /// # Errors
    ///
    /// If it does not serve.
    async fn start() -> Outcome<Self>;

    /// Where the store is, past all lines.
    fn url(&self) -> String;

    /// Lays the lines that lie between the processes and the store and can go bad, none by default. Each process
    /// uses one of them.
    ///
    /// # Errors
    ///
    /// If there is no port for one.
    async fn lines(&self) -> Outcome<Vec<Line>> {
        Ok(Vec::new())
    }

    /// Connects a new client to what [`url`](Self::url) or a line says.
    ///
    /// # Errors
    ///
    /// If that cannot be reached.
    async fn connect(url: &str) -> Result<SharedBackend>;

    /// Sets up the engine of each process. By default silence is taken for an outage sooner than users would.
    fn options(options: EngineOptions) -> EngineOptions {
        options.operation_timeout(Duration::from_secs(3))
    }

    /// Strikes one of the [`BLOWS`](Self::BLOWS), lets it last for about `long` if it lasts, and mends it:
    /// returns once the store serves again. Says what the store may have forgotten of `keys` by that.
    ///
    /// # Errors
    ///
    /// If it cannot be struck or the store does not come back.
    async fn strike(
        &mut self,
        blow: &'static str,
        long: Duration,
        keys: &[LockKey],
    ) -> Outcome<Option<Forgot>>;

    /// Mends what the store has broken by itself and keeps broken after all faults, as whoever runs it would, and
    /// says what that was. Asked for when something is left of the locks though nobody holds any; by default a
    /// store breaks nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be mended.
    async fn mend(&mut self) -> Outcome<Option<&'static str>> {
        Ok(None)
    }
}

/// A line between processes and a store.
#[derive(Clone)]
#[expect(clippy::exhaustive_structs, reason = "targets build it")]
pub struct Line {
    /// How it is disturbed.
    pub link: Arc<dyn Link>,
    /// Where the store is for those who use it.
    pub url: String,
}

impl Line {
    /// Lays two lines to the server at `address`; `url` makes of a line's own address what its users connect to.
    ///
    /// # Errors
    ///
    /// If there is no port for one.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it ends, it leaves no line.
    pub async fn two(address: &str, url: impl Fn(String) -> String) -> Outcome<Vec<Self>> {
        let mut lines = Vec::new();
        for _ in 0..2 {
            let proxy = Proxy::start(address).await?;
            let url = url(proxy.address().to_string());
            lines.push(Self { link: Arc::new(proxy), url });
        }
        Ok(lines)
    }
}

/// A time in which a store may have forgotten what it granted before its end, as its guarantees say.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "targets build it")]
pub struct Forgot {
    /// Until then all was known.
    pub from: BootInstant,
    /// From then on all that is granted is known.
    pub until: BootInstant,
    /// Which keys.
    pub keys: Vec<LockKey>,
}

impl Forgot {
    /// All of `keys` between `from` and now.
    pub fn since(from: BootInstant, keys: &[LockKey]) -> Self {
        Self { from, until: Clock::system().now(), keys: keys.to_vec() }
    }
}
