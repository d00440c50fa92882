//! What a user can set, parsed at the edge.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Host;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgSslMode;

use crate::names::Name;

/// The schema of a configuration that names none.
pub const DEFAULT_SCHEMA: &str = "locks";

const PORT: u16 = 5432;

/// How `postgres:` URLs open a server.
pub const DRIVER: Driver = Driver {
    name: "postgres",
    schemes: &["postgres", "postgresql"],
    params: &[
        Param { name: "schema", help: "the schema of the locks' tables; locks" },
        Param { name: "application_name", help: "the name to show in pg_stat_activity; lock" },
        Param { name: "connect_timeout", help: "longest time to make a connection; 5s" },
        Param {
            name: "sslmode",
            help: "disable, allow, prefer, require, verify-ca or verify-full; prefer",
        },
        Param { name: "sslrootcert", help: "file of trusted certificates (PEM); the system's" },
        Param { name: "sslcert", help: "file of the client's certificate (PEM); none" },
        Param { name: "sslkey", help: "file of the client's key (PEM); none" },
    ],
    connect: |url| Box::pin(open(url)),
    schema: |url| Ok(Some(crate::schema(&PostgresConfig::from_url(url)?))),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    Ok(Arc::new(crate::connect(PostgresConfig::from_url(&url)?).await?))
}

/// Where the locks are kept and how.
#[derive(Clone)]
pub struct PostgresConfig {
    /// One for each host; the first that is no replica is used.
    pub(crate) servers: Vec<PgConnectOptions>,
    pub(crate) schema: Name,
    pub(crate) connect_timeout: Duration,
}

impl PostgresConfig {
    /// Reads `postgres://user:password@host:port/database?…`; see [`DRIVER`] for the query keys.
    ///
    /// Several hosts are tried in their order. A host that is a path (percent-encoded) is the folder of a
    /// Unix socket.
    ///
    /// # Errors
    ///
    /// `Config` for a value that makes no sense. Unknown keys are the [`DRIVER`]'s to refuse.
    pub fn from_url(url: &ConnectUrl) -> Result<Self> {
        let database = url.path().trim_start_matches('/');
        if url.hosts().is_empty() || database.is_empty() || database.contains('/') {
            let example = "name server and database, as in postgres://user@127.0.0.1/database";
            return Err(config(example.into()));
        }
        let common = tls(url, PgConnectOptions::new_without_pgpass())?
            .disable_statement_logging()
            .database(database)
            .application_name(url.text("application_name").unwrap_or("lock"));
        let common = match url.user().filter(|user| !user.is_empty()) {
            Some(user) => common.username(user),
            None => common,
        };
        let common = match url.password() {
            Some(password) => common.password(password),
            None => common,
        };
        let connect_timeout = url.duration("connect_timeout")?.unwrap_or(Duration::from_secs(5));
        if connect_timeout.is_zero() {
            return Err(config("query key \"connect_timeout\" must be above 0".into()));
        }
        Ok(Self {
            servers: url.hosts().iter().map(|host| at(host, common.clone())).collect(),
            schema: Name::schema(url.text("schema").unwrap_or(DEFAULT_SCHEMA))?,
            connect_timeout,
        })
    }
}

/// Shows no more than where the server is.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.servers.iter().map(|server| server.get_host()).collect();
        f.debug_struct("PostgresConfig")
            .field("hosts", &hosts)
            .field("schema", &self.schema)
            .finish()
    }
}

fn at(host: &Host, options: PgConnectOptions) -> PgConnectOptions {
    let port = host.port.unwrap_or(PORT);
    let options = options.port(port);
    if host.name.starts_with('/') { options.socket(&host.name) } else { options.host(&host.name) }
}

fn tls(url: &ConnectUrl, options: PgConnectOptions) -> Result<PgConnectOptions> {
    const MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    let mode = url.choice("sslmode", MODES)?.unwrap_or("prefer");
    let parsed = mode.parse::<PgSslMode>().map_err(|_| config("unknown sslmode".into()))?;
    let mut options = options.ssl_mode(parsed);
    let (root, cert, key) = (url.text("sslrootcert"), url.text("sslcert"), url.text("sslkey"));
    if mode == "disable" && (root, cert, key) != (None, None, None) {
        let hint = "certificates are given, but nothing is encrypted: use sslmode=verify-full";
        return Err(config(hint.into()));
    }
    if let Some(root) = root {
        options = options.ssl_root_cert(file("sslrootcert", root)?);
    }
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let options = options.ssl_client_cert(file("sslcert", cert)?);
            Ok(options.ssl_client_key(file("sslkey", key)?))
        }
        (None, None) => Ok(options),
        _ => Err(config("sslcert and sslkey go together".into())),
    }
}

fn file<'a>(key: &str, path: &'a str) -> Result<&'a str> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(path),
        Err(cause) => Err(config(format!("the file of query key {key:?} cannot be read: {cause}"))
            .with_source(cause)),
    }
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<PostgresConfig> {
        PostgresConfig::from_url(&ConnectUrl::parse(url)?)
    }

    fn refused(url: &str) -> String {
        let error = read(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn takes_each_known_key() {
        let config = read(
            "postgresql://ann:s3cret@db1:6000,db2/shop?schema=app_locks&application_name=till\
             &sslmode=require&connect_timeout=2s",
        )
        .unwrap();
        assert_eq!(config.schema.as_str(), "app_locks");
        assert_eq!(config.connect_timeout, Duration::from_secs(2));
        let ports: Vec<_> = config.servers.iter().map(|server| server.get_port()).collect();
        assert_eq!(ports, [6000, 5432]);
        assert_eq!(config.servers[1].get_host(), "db2");
        assert_eq!(config.servers[0].get_username(), "ann");
        assert_eq!(config.servers[0].get_database(), Some("shop"));
        assert_eq!(config.servers[0].get_application_name(), Some("till"));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_socket_is_a_host() {
        let config = read("postgres://ann@%2Frun%2Fpostgresql/shop").unwrap();
        assert!(config.servers[0].get_socket().is_some());
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused() {
        assert!(refused("postgres:").contains("name server and database"));
        assert!(refused("postgres://h").contains("name server and database"));
        assert!(refused("postgres://h/d?sslmode=yes").contains("verify-full"));
        assert!(refused("postgres://h/d?schema=a.b").contains("schema name"));
        assert!(refused("postgres://h/d?schema=pg_x").contains("schema name"));
        assert!(refused("postgres://h/d?connect_timeout=0").contains("above 0"));
        assert!(refused("postgres://h/d?sslcert=x").contains("go together"));
        assert!(refused("postgres://h/d?sslmode=disable&sslrootcert=x").contains("encrypted"));
        assert!(refused("postgres://h/d?sslrootcert=/nowhere").contains("cannot be read"));
    }
}
