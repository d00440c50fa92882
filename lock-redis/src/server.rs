//! How to reach a server: what all servers behind one URL have in common.

use std::fmt;
use std::time::Duration;

use lock_core::Result;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo as _;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::TlsCertificates;
use redis::io::tcp::TcpSettings;

use crate::error::During;
use crate::error::classify;

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

/// How to encrypt. The system's certificates are trusted unless others are named.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    pub(crate) root: Option<Vec<u8>>,
    /// Certificate and key of the client.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
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
    /// Builds the driver's client for the server at `address`. Nothing is sent.
    pub(crate) fn client(&self, address: &Address) -> Result<redis::Client> {
        let failed = |failure| classify(failure, During::Connect);
        let info = self.info(address).map_err(failed)?;
        let Some(tls) = &self.tls else { return redis::Client::open(info).map_err(failed) };
        let client_tls = tls
            .identity
            .clone()
            .map(|(client_cert, client_key)| redis::ClientTlsConfig { client_cert, client_key });
        let certificates = TlsCertificates { client_tls, root_cert: tls.root.clone() };
        redis::Client::build_with_tls(info, certificates).map_err(failed)
    }

    fn info(&self, address: &Address) -> redis::RedisResult<ConnectionInfo> {
        let Address { host, port } = address.clone();
        let address = match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        // RESP3, so that pushes come on the same connection.
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database);
        if let Some(user) = &self.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        let socket = TcpSettings::default().set_nodelay(true);
        Ok(address.into_connection_info()?.set_redis_settings(settings).set_tcp_settings(socket))
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
