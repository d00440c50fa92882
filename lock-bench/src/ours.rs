//! Locks through the whole framework, as its users have them.

use std::sync::Arc;

use lock::Background;
use lock::ConnectUrl;
use lock::DRIVERS;
use lock::Engine;
use lock::EngineOptions;
use lock::LockGuard;
use lock::LockOptions;
use lock::LockProvider;
use lock::SharedBackend;
use tokio::runtime::Handle;

use crate::counting::Counting;
use crate::counting::Counts;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::order::Gauge;
use crate::order::Post;
use crate::order::Requests;
use crate::way::Way;

pub(crate) struct Ours {
    locks: Arc<dyn LockProvider>,
    options: LockOptions,
    counts: Option<Arc<Counts>>,
}

impl Ours {
    /// Puts an engine over the backend at the post's URL, as `lock::connect` does.
    pub(crate) async fn open(post: &Post, fair: bool) -> Outcome<Self> {
        let url = ConnectUrl::parse(&post.url)?;
        let driver = DRIVERS.iter().find(|driver| driver.schemes.contains(&url.scheme()));
        let driver = driver.ok_or_else(|| Failure::new("no driver answers to the URL"))?;
        let backend = driver.open(url).await?;
        let mut options = EngineOptions::new().ttl(post.ttl);
        if post.gauge == Gauge::Memory {
            options = options.background(Background::Runtime(Handle::current()));
        }
        let (backend, counts) = counted(backend, post.gauge);
        let locks = Arc::new(Engine::new(backend, options)?);
        let mut options = LockOptions::new();
        options.fair = fair;
        Ok(Self { locks, options, counts })
    }

    /// Tells whether the backend keeps order among processes.
    pub(crate) fn has_fair(&self) -> bool {
        self.locks.profile().fair
    }
}

fn counted(backend: SharedBackend, gauge: Gauge) -> (SharedBackend, Option<Arc<Counts>>) {
    if gauge == Gauge::Speed {
        return (backend, None);
    }
    let counts = Arc::new(Counts::default());
    (Arc::new(Counting::new(backend, counts.clone())), Some(counts))
}

impl Way for Ours {
    type Guard = LockGuard;

    async fn lock(&self, key: &str) -> Outcome<LockGuard> {
        Ok(self.locks.lock(key, &self.options).await?)
    }

    async fn unlock(&self, guard: LockGuard) -> Outcome {
        Ok(guard.unlock().await?)
    }

    fn requests(&self) -> Option<Requests> {
        self.counts.as_deref().map(Counts::requests)
    }
}
