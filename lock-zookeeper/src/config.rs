//! What a user can set, parsed at the edge.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;
use zookeeper_client::Acls;
use zookeeper_client::Connector;

use crate::backend::Zookeeper;
use crate::client::Client;
use crate::names;
use crate::names::Recipe;

const PORT: u16 = 2181;

/// How `zookeeper:` URLs open an ensemble.
pub const DRIVER: Driver = Driver {
    name: "zookeeper",
    schemes: &["zookeeper"],
    params: &[
        Param { name: "session_timeout", help: "silence after which the servers free all; 10s" },
        Param { name: "tick_time", help: "tickTime of the servers, for the margin; 2s" },
        Param { name: "auth", help: "digest or sasl: how user and password are shown; digest" },
        Param {
            name: "acl",
            help: "creator or open: who may touch our nodes; creator with a user",
        },
        Param {
            name: "recipe",
            help: "whose locks wait for ours: curator, curator-rw or kazoo; curator",
        },
        Param { name: "fence_base", help: "what is added to every fence, stored once; 0" },
        Param { name: "tls", help: "true: encrypt (needs feature tls); false" },
        Param { name: "tls_ca", help: "file of trusted certificates (PEM); none" },
        Param { name: "tls_cert", help: "file of the client's certificate (PEM); none" },
        Param { name: "tls_key", help: "file of the client's key (PEM); none" },
    ],
    connect: |url| Box::pin(open(url)),
    schema: |_| Ok(None),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    let client = Client::open(Config::of(&url)?).await.map_err(explained)?;
    Ok(Arc::new(Zookeeper::new(client)))
}

/// Says what to look at where the first connection could not be made.
fn explained(failure: Error) -> Error {
    if failure.kind() != ErrorKind::Unavailable {
        return failure;
    }
    let message = format!(
        "{}: check hosts and ports, and whether TLS is spoken there (tls=true)",
        failure.message()
    );
    Error::new(ErrorKind::Unavailable, message).with_source(failure)
}

/// The shortest session that a client can keep alive: a third of it is the time for a connection.
const SESSION_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// How to reach an ensemble, and as whom.
pub(crate) struct Config {
    pub(crate) hosts: String,
    /// Where everything is stored; `/` for the root.
    pub(crate) chroot: String,
    pub(crate) session_timeout: Duration,
    pub(crate) tick_time: Duration,
    pub(crate) recipe: Recipe,
    pub(crate) fence_base: Option<u64>,
    pub(crate) acls: Acls<'static>,
    connector: Connector,
}

impl Config {
    pub(crate) fn of(url: &ConnectUrl) -> Result<Self> {
        let at_least = |key, default| match url.duration(key)? {
            Some(Duration::ZERO) => Err(config(format!("query key {key:?} must be above 0"))),
            given => Ok(given.unwrap_or(default)),
        };
        let session_timeout = at_least("session_timeout", Duration::from_secs(10))?;
        if session_timeout < SESSION_TIMEOUT_MIN {
            let least = SESSION_TIMEOUT_MIN;
            return Err(config(format!(
                "query key \"session_timeout\" must be at least {least:?}"
            )));
        }
        if session_timeout.as_millis() > 1 << 30 {
            return Err(config("query key \"session_timeout\" is too long".into()));
        }
        let connector = zookeeper_client::Client::connector()
            .with_fail_eagerly()
            .with_session_timeout(session_timeout)
            // A silent server is left early enough to find another.
            .with_connection_timeout(session_timeout / 3);
        Ok(Self {
            hosts: hosts(url)?,
            chroot: chroot(url)?,
            session_timeout,
            tick_time: at_least("tick_time", Duration::from_secs(2))?,
            recipe: recipe(url)?,
            fence_base: url.integer("fence_base", 0..=Fence::MAX.get() / 2)?,
            acls: acls(url)?,
            connector: encrypted(url, authenticated(url, connector)?)?,
        })
    }

    pub(crate) fn connector(&self) -> Connector {
        self.connector.clone()
    }
}

/// Shows neither user nor password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({}{})", self.hosts, self.chroot)
    }
}

fn hosts(url: &ConnectUrl) -> Result<String> {
    // In the driver's notation, each server says for itself whether it is encrypted.
    let scheme = if url.flag("tls")?.unwrap_or(false) { "tcp+tls://" } else { "" };
    let address = |host: &lock_core::Host| {
        let name = &host.name;
        let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
        format!("{scheme}{name}:{}", host.port.unwrap_or(PORT))
    };
    let hosts: Vec<_> = url.hosts().iter().map(address).collect();
    if hosts.is_empty() {
        return Err(config("name the servers, as in zookeeper://h1,h2,h3/chroot".into()));
    }
    Ok(hosts.join(","))
}

fn chroot(url: &ConnectUrl) -> Result<String> {
    let path = url.path().trim_end_matches('/');
    let good = |component: &str| {
        !matches!(component, "" | "." | "..") && !component.contains(char::is_control)
    };
    match path.strip_prefix('/') {
        None => Ok("/".into()),
        Some(components) if components.split('/').next() == Some(names::RESERVED) => {
            Err(config("/zookeeper is the servers' own: name another chroot".into()))
        }
        Some(components) if components.split('/').all(good) => Ok(path.into()),
        Some(_) => Err(config("the path is the chroot, as in zookeeper://h1,h2,h3/locks".into())),
    }
}

fn recipe(url: &ConnectUrl) -> Result<Recipe> {
    Ok(match url.choice("recipe", &["curator", "curator-rw", "kazoo"])? {
        Some("kazoo") => Recipe::Kazoo,
        Some("curator-rw") => Recipe::CuratorRw,
        _ => Recipe::Curator,
    })
}

fn acls(url: &ConnectUrl) -> Result<Acls<'static>> {
    match (url.choice("acl", &["creator", "open"])?, url.user()) {
        (Some("creator"), None) => {
            Err(config("acl=creator needs a user, as in zookeeper://user:password@h1".into()))
        }
        (Some("open") | None, None) | (Some("open"), Some(_)) => Ok(Acls::anyone_all()),
        _ => Ok(Acls::creator_all()),
    }
}

fn authenticated(url: &ConnectUrl, connector: Connector) -> Result<Connector> {
    let way = url.choice("auth", &["digest", "sasl"])?;
    let Some(user) = url.user() else {
        return match way {
            Some(_) => Err(config("query key \"auth\" needs a user and a password".into())),
            None => Ok(connector),
        };
    };
    let Some(password) = url.password() else {
        return Err(config("a user needs a password, as in zookeeper://user:password@h1".into()));
    };
    if way == Some("sasl") {
        return sasl(connector, user, password);
    }
    Ok(connector.with_auth("digest", format!("{user}:{password}").as_bytes()))
}

#[cfg(feature = "sasl")]
fn sasl(connector: Connector, user: &str, password: &str) -> Result<Connector> {
    let (user, password) = (user.to_owned(), password.to_owned());
    Ok(connector.with_sasl(zookeeper_client::SaslOptions::digest_md5(user, password)))
}

#[cfg(not(feature = "sasl"))]
fn sasl(_: Connector, _: &str, _: &str) -> Result<Connector> {
    Err(config(
        "auth=sasl needs the feature sasl of lock-zookeeper, zookeeper-sasl of lock and lockctl"
            .into(),
    ))
}

fn encrypted(url: &ConnectUrl, connector: Connector) -> Result<Connector> {
    let file = |key: &str| url.text(key).map(|path| read(key, path)).transpose();
    let (ca, certificate, key) = (file("tls_ca")?, file("tls_cert")?, file("tls_key")?);
    if url.flag("tls")?.unwrap_or(false) {
        #[cfg(feature = "tls")]
        url.hosts().iter().try_for_each(check_name)?;
        return tls(connector, ca, certificate, key);
    }
    match (ca, certificate, key) {
        (None, None, None) => Ok(connector),
        _ => Err(config("certificates are given, but nothing is encrypted: set tls=true".into())),
    }
}

#[cfg(feature = "tls")]
fn tls(
    connector: Connector,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
) -> Result<Connector> {
    let unfit = |failure| config("a certificate cannot be used".into()).with_source(failure);
    let Some(ca) = ca else {
        return Err(config("tls=true needs tls_ca, the file of trusted certificates".into()));
    };
    choose_provider();
    let options = zookeeper_client::TlsOptions::new().with_pem_ca(&ca).map_err(unfit)?;
    let options = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            options.with_pem_identity(&certificate, &key).map_err(unfit)?
        }
        (None, None) => options,
        _ => return Err(config("tls_cert and tls_key go together".into())),
    };
    Ok(connector.with_tls(options))
}

/// Chooses ring for the process unless somebody has chosen: the driver asks rustls for the one of the process, and
/// rustls panics where several are built in and none is chosen.
#[cfg(feature = "tls")]
fn choose_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails if somebody has chosen meanwhile, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// Checks that a certificate can have the name: the driver takes that for granted.
#[cfg(feature = "tls")]
fn check_name(host: &lock_core::Host) -> Result<()> {
    let fit = rustls::pki_types::ServerName::try_from(host.name.as_str());
    fit.map(drop).map_err(|failure| {
        config(format!("no certificate can be for the host {:?}", host.name)).with_source(failure)
    })
}

#[cfg(not(feature = "tls"))]
fn tls(_: Connector, _: Option<String>, _: Option<String>, _: Option<String>) -> Result<Connector> {
    Err(config(
        "tls=true needs the feature tls of lock-zookeeper, zookeeper-tls of lock and lockctl"
            .into(),
    ))
}

fn read(key: &str, path: &str) -> Result<String> {
    std::fs::read_to_string(path).map_err(|failure| {
        config(format!("the file of query key {key:?} cannot be read: {failure}"))
            .with_source(failure)
    })
}

pub(crate) fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
