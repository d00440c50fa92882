//! Finding the primary by asking sentinels, anew after every connection that broke.

use std::sync::Mutex;
use std::sync::PoisonError;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use redis::AsyncConnectionConfig;
use redis::Client;

use crate::connecting;
use crate::error::During;
use crate::node::Node;
use crate::node::Pool;
use crate::reply;
use crate::server::Address;

/// A primary that sentinels know by name.
pub(crate) struct Sentinel {
    pub(crate) pool: Pool,
    sentinels: Vec<Client>,
    service: String,
    current: Mutex<Option<Node>>,
    /// Held while sentinels are asked, so that many callers ask once.
    asking: tokio::sync::Mutex<()>,
}

impl Sentinel {
    pub(crate) fn new(pool: Pool, sentinels: Vec<Client>, service: String) -> Self {
        let asking = tokio::sync::Mutex::new(());
        Self { pool, sentinels, service, current: Mutex::new(None), asking }
    }

    /// Returns the primary: the one at hand while its connection lives, else what sentinels say.
    pub(crate) async fn primary(&self) -> Result<Node> {
        if let Some(node) = self.connected() {
            return Ok(node);
        }
        let _one = self.asking.lock().await;
        if let Some(node) = self.connected() {
            return Ok(node);
        }
        let node = self.pool.node(&self.ask().await?)?;
        // The server itself is asked whether it is the primary; sentinels can be late.
        node.ready().await.map_err(|failure| failure.into_error(During::Connect))?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
        Ok(node)
    }

    fn connected(&self) -> Option<Node> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(Node::is_connected)
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

    async fn ask_one(&self, sentinel: &Client) -> Result<Option<Address>> {
        let failed = |failure| connecting::failed(failure, sentinel);
        let limits = self.pool.limits;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits.connect))
            .set_response_timeout(Some(limits.connect));
        let connection = sentinel.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection.await.map_err(failed)?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(&self.service);
        let answer = command.query_async(&mut connection).await.map_err(failed)?;
        if answer == redis::Value::Nil {
            return Ok(None);
        }
        let mut parts = reply::list(answer)?.into_iter();
        let host = reply::text(parts.next())?;
        let port = reply::text(parts.next())?.parse().unwrap_or(0);
        Ok(Some(Address { host, port }))
    }
}
