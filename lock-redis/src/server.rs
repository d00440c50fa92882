//! How to reach a server: what all servers behind one URL have in common.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::error::Failure;
use crate::motor::Motor;
use crate::tls::Tls;

/// How many requests the driver takes in before others have to wait for it.
const REQUESTS: usize = 1024;

/// How many bytes it writes at once: many tasks ask at the same time, and a packet for each few would cost more
/// than what is asked.
const BYTES: usize = 64 * 1024;

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// What to say to every server.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: i64,
    /// Encrypt, and with which certificates.
    pub(crate) tls: Option<Tls>,
}

/// How long to wait for a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For each answer on it.
    pub(crate) reply: Duration,
}

impl Login {
    /// Prepares the way to the server at `address`. Nothing is sent.
    pub(crate) fn way(&self, address: &Address) -> Way {
        // RESP3, so that pushes come on the same connection.
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database)
            .set_skip_set_lib_name();
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        Way { address: address.clone(), settings, tls: self.tls.clone() }
    }
}

/// The way to one server.
#[derive(Clone)]
pub(crate) struct Way {
    address: Address,
    settings: RedisConnectionInfo,
    tls: Option<Tls>,
}

/// A connection, and what drives it.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) motor: Arc<Motor>,
}

impl Way {
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Makes a connection, on the runtime of the caller.
    pub(crate) async fn connect(
        &self,
        limit: Duration,
        config: AsyncConnectionConfig,
    ) -> Result<Connected, Failure> {
        match tokio::time::timeout(limit, self.connect_in_time(config)).await {
            Ok(made) => made,
            Err(_) => Err(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)).into()),
        }
    }

    async fn connect_in_time(&self, config: AsyncConnectionConfig) -> Result<Connected, Failure> {
        let line = self.dial().await.map_err(RedisError::from)?;
        match &self.tls {
            None => self.greet(line, config).await,
            Some(tls) => self.greet(tls.wrap(&self.address, line).await?, config).await,
        }
    }

    async fn greet(
        &self,
        line: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        config: AsyncConnectionConfig,
    ) -> Result<Connected, Failure> {
        let config =
            config.set_pipeline_buffer_size(REQUESTS).set_write_backpressure_boundary(BYTES);
        let (connection, task) =
            MultiplexedConnection::new_with_config(&self.settings, line, config).await?;
        Ok(Connected { connection, motor: Motor::start(task) })
    }

    /// Takes the first line that comes about to any of the addresses that the name stands for.
    async fn dial(&self) -> io::Result<TcpStream> {
        let Address { host, port } = &self.address;
        let addresses = tokio::net::lookup_host((host.as_str(), *port)).await?;
        let lines: Vec<_> =
            addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
        if lines.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name stands for no address"));
        }
        let (line, _) = futures_util::future::select_ok(lines).await?;
        line.set_nodelay(true)?;
        Ok(line)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("database", &self.database)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_in_a_url() {
        for (host, written) in [("::1", "[::1]:6379"), ("h", "h:6379")] {
            assert_eq!(Address { host: host.into(), port: 6379 }.to_string(), written);
        }
    }
}
