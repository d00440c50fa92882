//! How to reach a server: what all servers behind one URL have in common.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use lock_core::Result;
use redis::AsyncConnectionConfig;
use redis::Client;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo as _;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::error::During;
use crate::error::Failure;
use crate::error::classify;
use crate::tls::Tls;

/// The address of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
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
    pub(crate) fn way(&self, address: &Address) -> Result<Way> {
        let client = self.info(address).and_then(Client::open);
        let client = client.map_err(|failure| classify(failure, During::Connect))?;
        Ok(Way { address: address.clone(), client, tls: self.tls.clone() })
    }

    fn info(&self, address: &Address) -> RedisResult<ConnectionInfo> {
        let Address { host, port } = address.clone();
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
        let socket = TcpSettings::default().set_nodelay(true);
        let address = ConnectionAddr::Tcp(host, port).into_connection_info()?;
        Ok(address.set_redis_settings(settings).set_tcp_settings(socket))
    }
}

/// The way to one server.
#[derive(Clone)]
pub(crate) struct Way {
    address: Address,
    client: Client,
    tls: Option<Tls>,
}

/// A connection, and what drives it if the driver does not see to that itself.
#[derive(Clone)]
pub(crate) struct Connected {
    pub(crate) connection: MultiplexedConnection,
    _motor: Option<Arc<Motor>>,
}

/// Ends when nobody has the connection any more, whatever the server does.
struct Motor(JoinHandle<()>);

impl Drop for Motor {
    fn drop(&mut self) {
        self.0.abort();
    }
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
        let config = config.set_connection_timeout(Some(limit));
        let Some(tls) = &self.tls else {
            let made = self.client.get_multiplexed_async_connection_with_config(&config);
            return Ok(Connected { connection: made.await?, _motor: None });
        };
        let encrypted = self.connect_encrypted(tls, config);
        match tokio::time::timeout(limit, encrypted).await {
            Ok(made) => made,
            Err(_) => Err(RedisError::from(io::Error::from(io::ErrorKind::TimedOut)).into()),
        }
    }

    async fn connect_encrypted(
        &self,
        tls: &Tls,
        config: AsyncConnectionConfig,
    ) -> Result<Connected, Failure> {
        let Address { host, port } = &self.address;
        let line = TcpStream::connect((host.as_str(), *port)).await.map_err(RedisError::from)?;
        line.set_nodelay(true).map_err(RedisError::from)?;
        let line = tls.wrap(&self.address, line).await?;
        let settings = self.client.get_connection_info().redis_settings();
        let (connection, motor) =
            MultiplexedConnection::new_with_config(settings, line, config).await?;
        let motor = Motor(tokio::spawn(motor));
        Ok(Connected { connection, _motor: Some(Arc::new(motor)) })
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
