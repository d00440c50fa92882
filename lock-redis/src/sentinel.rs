//! Finding the primary by asking sentinels, anew after every connection that broke and whenever they say that
//! it is another.

use std::sync::Arc;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use redis::AsyncConnectionConfig;

use crate::connecting;
use crate::error::During;
use crate::node::Node;
use crate::node::Pool;
use crate::server::Address;
use crate::server::Way;
use crate::switch::Current;
use crate::switch::Ear;
use crate::switch::master;

/// A primary that sentinels know by name.
pub(crate) struct Sentinel {
    pub(crate) pool: Pool,
    sentinels: Vec<Way>,
    service: String,
    current: Arc<Current>,
    ears: Vec<Ear>,
    /// Held while sentinels are asked, so that many callers ask once.
    asking: tokio::sync::Mutex<()>,
}

impl Sentinel {
    pub(crate) fn new(pool: Pool, sentinels: Vec<Way>, service: String) -> Self {
        let asking = tokio::sync::Mutex::new(());
        let ears = sentinels.iter().cloned().map(Ear::new).collect();
        Self { pool, sentinels, service, current: Arc::default(), ears, asking }
    }

    /// Returns the primary: the one at hand while its connection lives, else what sentinels say.
    pub(crate) async fn primary(&self) -> Result<Node> {
        for ear in &self.ears {
            ear.open(&self.service, &self.current, self.pool.limits, self.pool.runtime());
        }
        if let Some(node) = self.current.connected() {
            return Ok(node);
        }
        let _one = self.asking.lock().await;
        if let Some(node) = self.current.connected() {
            return Ok(node);
        }
        loop {
            let told = self.current.told();
            let node = self.pool.node(&self.ask().await?);
            // The server itself is asked whether it is the primary; sentinels can be late.
            node.ready().await.map_err(|failure| failure.into_error(During::Connect))?;
            if self.current.set(&node, told) {
                return Ok(node);
            }
        }
    }

    /// Ends all connections.
    pub(crate) fn disconnect(&self) {
        self.ears.iter().for_each(Ear::close);
        self.pool.disconnect();
    }

    async fn ask(&self) -> Result<Address> {
        let mut last = Error::new(ErrorKind::Unavailable, "no sentinel is named");
        for sentinel in &self.sentinels {
            match self.ask_one(sentinel).await {
                Ok(Some(address)) => return Ok(address),
                Ok(None) => {
                    let message = format!("sentinels know no service {:?}", self.service);
                    last = Error::new(ErrorKind::Config, message);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn ask_one(&self, sentinel: &Way) -> Result<Option<Address>> {
        let failed = |failure| connecting::failed(failure, sentinel);
        let limits = self.pool.limits;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limits.connect));
        let connected = sentinel.connect(limits.connect, config).await;
        let mut connected = connected.map_err(failed)?;
        master(&mut connected.connection, &self.service).await.map_err(failed)
    }
}
