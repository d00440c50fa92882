//! What a user can set, parsed at the edge.

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::backend::Redis;
use crate::check::Terms;
use crate::cluster::Cluster;
use crate::copies::Copies;
use crate::node::Pool;
use crate::route::Route;
use crate::route::Servers;
use crate::sentinel::Sentinel;
use crate::server::Address;
use crate::server::Limits;
use crate::server::Login;
use crate::tls::Identity;
use crate::tls::Tls;

pub(crate) const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// How `redis:` URLs and their relatives open a server, a cluster or what sentinels watch.
pub const DRIVER: Driver = Driver {
    name: "redis",
    schemes: &["redis", "rediss", "redis+sentinel", "redis+cluster"],
    params: &[
        CONNECT_TIMEOUT,
        REPLY_TIMEOUT,
        TLS,
        TLS_CA,
        TLS_CERT,
        TLS_KEY,
        Param { name: "sentinel_user", help: "user at the sentinels; none" },
        Param { name: "sentinel_password", help: "password at the sentinels; none" },
        Param {
            name: "wait_replicas",
            help: "how many replicas have to have a lock before it counts; none",
        },
        Param { name: "wait_timeout", help: "longest time to wait for replicas; 100ms" },
        UNSAFE_EVICTION,
    ],
    connect: |url| Box::pin(open(url)),
    schema: |_| Ok(None),
};

pub(crate) const CONNECT_TIMEOUT: Param =
    Param { name: "connect_timeout", help: "longest time to make a connection; 2s" };
pub(crate) const REPLY_TIMEOUT: Param =
    Param { name: "reply_timeout", help: "longest silence before a connection is given up; 5s" };
pub(crate) const TLS: Param =
    Param { name: "tls", help: "true: encrypt; for one server write rediss:// instead; false" };
pub(crate) const TLS_CA: Param =
    Param { name: "tls_ca", help: "file of trusted certificates (PEM); the system's" };
pub(crate) const TLS_CERT: Param =
    Param { name: "tls_cert", help: "file of the client's certificate (PEM); none" };
pub(crate) const TLS_KEY: Param =
    Param { name: "tls_key", help: "file of the client's key (PEM); none" };
pub(crate) const UNSAFE_EVICTION: Param = Param {
    name: "unsafe_eviction",
    help: "allow: use a server that drops keys when its memory is full; not set",
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    let copies = copies(&url)?;
    let route = Route::new(servers(&url)?).await?;
    Ok(Arc::new(Redis::new(route, copies)))
}

fn copies(url: &ConnectUrl) -> Result<Option<Copies>> {
    let timeout = positive(url, "wait_timeout")?;
    let Some(replicas) = url.integer("wait_replicas", 1..=100)? else {
        return match timeout {
            Some(_) => Err(config("wait_timeout is for wait_replicas, which is not given")),
            None => Ok(None),
        };
    };
    let timeout = timeout.unwrap_or(Duration::from_millis(100));
    // A wait that is given up would take the connection with it.
    if timeout >= limits(url)?.reply {
        return Err(config("wait_timeout must be below reply_timeout"));
    }
    Ok(Some(Copies { replicas, timeout }))
}

fn servers(url: &ConnectUrl) -> Result<Servers> {
    let waits = url.text("wait_replicas").is_some();
    let pool = |database| -> Result<Pool> {
        let pool = pool(url, database)?;
        Ok(if waits { pool.with_writer() } else { pool })
    };
    match url.scheme() {
        "redis+sentinel" => {
            let service = url.path().trim_start_matches('/');
            if service.is_empty() || service.contains('/') {
                return Err(config("name the service, as in redis+sentinel://h1,h2,h3/mymaster"));
            }
            let sentinels = addresses(url, SENTINEL_PORT)?;
            let login = sentinel_login(url)?;
            let ways = sentinels.iter().map(|address| login.way(address)).collect();
            Ok(Servers::Sentinel(Sentinel::new(pool(0)?, ways, service.to_owned())))
        }
        "redis+cluster" => {
            no_path(url, "a cluster has no database but 0: end the URL after the hosts")?;
            Ok(Servers::Cluster(Cluster::new(pool(0)?, addresses(url, PORT)?)))
        }
        _ => {
            let [address] = &addresses(url, PORT)?[..] else {
                let hint = "several hosts need redis+cluster://, redis+sentinel:// or redlock://";
                return Err(config(hint));
            };
            Ok(Servers::one(pool(database(url)?)?, address))
        }
    }
}

/// The servers of one URL have all in common but their addresses.
pub(crate) fn pool(url: &ConnectUrl, database: i64) -> Result<Pool> {
    let terms = Terms {
        allows_eviction: url.choice("unsafe_eviction", &["allow"])?.is_some(),
        clustered: url.scheme() == "redis+cluster",
    };
    Ok(Pool::new(login(url, database)?, limits(url)?, terms))
}

fn limits(url: &ConnectUrl) -> Result<Limits> {
    let connect = positive(url, "connect_timeout")?.unwrap_or(Duration::from_secs(2));
    let reply = positive(url, "reply_timeout")?.unwrap_or(Duration::from_secs(5));
    Ok(Limits { connect, reply })
}

pub(crate) fn positive(url: &ConnectUrl, key: &str) -> Result<Option<Duration>> {
    match url.duration(key)? {
        Some(Duration::ZERO) => Err(config(&format!("query key {key:?} must be above 0"))),
        limit => Ok(limit),
    }
}

pub(crate) fn addresses(url: &ConnectUrl, port: u16) -> Result<Vec<Address>> {
    let address = |host: &lock_core::Host| Address {
        host: host.name.clone(),
        port: host.port.unwrap_or(port),
    };
    let addresses: Vec<_> = url.hosts().iter().map(address).collect();
    if addresses.is_empty() {
        return Err(config(&format!("name a server, as in {}://127.0.0.1:{port}", url.scheme())));
    }
    Ok(addresses)
}

pub(crate) fn database(url: &ConnectUrl) -> Result<i64> {
    match url.path().trim_start_matches('/') {
        "" => Ok(0),
        number => {
            number.parse().ok().filter(|number| (0..1_000_000).contains(number)).ok_or_else(|| {
                config("the path is the number of the database, as in redis://127.0.0.1/0")
            })
        }
    }
}

fn no_path(url: &ConnectUrl, hint: &str) -> Result<()> {
    if url.path().trim_start_matches('/').is_empty() { Ok(()) } else { Err(config(hint)) }
}

fn login(url: &ConnectUrl, database: i64) -> Result<Login> {
    let (user, password) = (url.user(), url.password());
    Ok(Login {
        user: user.filter(|user| !user.is_empty()).map(str::to_owned),
        password: password.map(str::to_owned),
        database,
        tls: encryption(url)?,
    })
}

fn sentinel_login(url: &ConnectUrl) -> Result<Login> {
    Ok(Login {
        user: url.text("sentinel_user").map(str::to_owned),
        password: url.text("sentinel_password").map(str::to_owned),
        database: 0,
        tls: encryption(url)?,
    })
}

fn encryption(url: &ConnectUrl) -> Result<Option<Tls>> {
    let wanted = match url.scheme() {
        "redis" | "rediss" if url.text("tls").is_some() => {
            let hint = "leave out query key \"tls\": rediss:// encrypts, and redis:// does not";
            return Err(config(hint));
        }
        "rediss" => true,
        "redis" => false,
        _ => url.flag("tls")?.unwrap_or(false),
    };
    let file = |key: &str| url.text(key).map(|path| read(key, path)).transpose();
    let (root, certificate, key) = (file("tls_ca")?, file("tls_cert")?, file("tls_key")?);
    if !wanted {
        let instead = if url.scheme() == "redis" { "write rediss://" } else { "add tls=true" };
        return match (root, certificate, key) {
            (None, None, None) => Ok(None),
            _ => {
                Err(config(&format!("certificates are given, but nothing is encrypted: {instead}")))
            }
        };
    }
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err(config("tls_cert and tls_key go together")),
    };
    Tls::new(root.as_deref(), identity.as_ref()).map(Some)
}

fn read(key: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|failure| {
        config(&format!("the file of query key {key:?} cannot be read: {failure}"))
    })
}

pub(crate) fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message)
}
