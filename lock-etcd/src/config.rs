//! What a user can set, parsed at the edge.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::Certificate;
use etcd_client::ConnectOptions;
use etcd_client::Identity;
use etcd_client::TlsOptions;
use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Fence;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::backend::Etcd;
use crate::client::Route;

const PORT: u16 = 2379;

/// A ping after so long a silence: the server takes one every 5 s at the most.
const PING_EVERY: Duration = Duration::from_secs(6);

/// How `etcd:` and `etcds:` URLs open a cluster.
pub const DRIVER: Driver = Driver {
    name: "etcd",
    schemes: &["etcd", "etcds"],
    params: &[
        Param { name: "connect_timeout", help: "longest time to make a connection; 2s" },
        Param { name: "reply_timeout", help: "longest time until a server answers; 5s" },
        Param { name: "tls_ca", help: "file of trusted certificates (PEM); the system's" },
        Param { name: "tls_cert", help: "file of the client's certificate (PEM); none" },
        Param { name: "tls_key", help: "file of the client's key (PEM); none" },
        Param { name: "tls_name", help: "name that the server's certificate has; the host" },
        Param {
            name: "fence_base",
            help: "number added to every fence, kept in the store by the first who names it; 0",
        },
    ],
    connect: |url| Box::pin(open(url)),
    schema: |_| Ok(None),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    let base = url.integer("fence_base", 0..=Fence::MAX.get() / 2)?;
    let route = Route::new(servers(&url)?, options(&url)?, url.user().is_some());
    let opened = Etcd::open(route, base).await;
    Ok(Arc::new(opened.map_err(|failure| explained(failure, is_encrypted(&url)))?))
}

/// Says what to look at where the first request had no answer.
fn explained(failure: Error, is_encrypted: bool) -> Error {
    if !failure.is_ambiguous() {
        return failure;
    }
    let message = match is_encrypted {
        true => "no answer: check host and port; if TLS is not spoken there, write etcd://",
        false => "no answer: check host and port; if TLS is spoken there, write etcds://",
    };
    Error::new(failure.kind(), message).ambiguous().with_source(failure)
}

fn servers(url: &ConnectUrl) -> Result<Vec<String>> {
    if !url.path().trim_start_matches('/').is_empty() {
        return Err(config(
            "end the URL after the hosts: a prefix of keys is the query key prefix",
        ));
    }
    if url.hosts().is_empty() {
        return Err(config(&format!("name a server, as in {}://127.0.0.1:{PORT}", url.scheme())));
    }
    let scheme = if is_encrypted(url) { "https" } else { "http" };
    let address = |host: &lock_core::Host| {
        let mut host = host.clone();
        host.port.get_or_insert(PORT);
        format!("{scheme}://{host}")
    };
    Ok(url.hosts().iter().map(address).collect())
}

fn options(url: &ConnectUrl) -> Result<ConnectOptions> {
    let limit = |key, default| match url.duration(key)? {
        Some(Duration::ZERO) => Err(config(&format!("query key {key:?} must be above 0"))),
        limit => Ok(limit.unwrap_or(default)),
    };
    let reply = limit("reply_timeout", Duration::from_secs(5))?;
    let mut options = ConnectOptions::new()
        .with_connect_timeout(limit("connect_timeout", Duration::from_secs(2))?)
        .with_timeout(reply)
        .with_keep_alive(PING_EVERY, reply)
        // A member that has lost the others says so, instead of leaving watches without news.
        .with_require_leader(true);
    match (url.user().filter(|user| !user.is_empty()), url.password()) {
        (Some(user), Some(password)) => {
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        (None, None) => {}
        _ => return Err(config("user and password go together, as in etcd://user:password@host")),
    }
    Ok(match tls(url)? {
        Some(tls) => options.with_tls(tls),
        None => options,
    })
}

fn tls(url: &ConnectUrl) -> Result<Option<TlsOptions>> {
    let file = |key: &str| url.text(key).map(|path| read(key, path)).transpose();
    let (root, certificate, key) = (file("tls_ca")?, file("tls_cert")?, file("tls_key")?);
    let name = url.text("tls_name");
    if !is_encrypted(url) {
        return match (root, certificate, key, name) {
            (None, None, None, None) => Ok(None),
            _ => Err(config("certificates are given, but nothing is encrypted: use etcds://")),
        };
    }
    let mut tls = match root {
        Some(root) => TlsOptions::new().ca_certificate(Certificate::from_pem(root)),
        None => TlsOptions::new().with_native_roots(),
    };
    if let Some(name) = name {
        tls = tls.domain_name(name);
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            Ok(Some(tls.identity(Identity::from_pem(certificate, key))))
        }
        (None, None) => Ok(Some(tls)),
        _ => Err(config("tls_cert and tls_key go together")),
    }
}

fn is_encrypted(url: &ConnectUrl) -> bool {
    url.scheme() == "etcds"
}

fn read(key: &str, path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|failure| {
        config(&format!("the file of query key {key:?} cannot be read: {failure}"))
            .with_source(failure)
    })
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Vec<String>> {
        let url = ConnectUrl::parse(url).unwrap();
        DRIVER.check(&url)?;
        options(&url)?;
        servers(&url)
    }

    #[test]
    fn hosts_become_addresses() {
        assert_eq!(
            parsed("etcd://h1,h2:9,[::1]").unwrap(),
            ["http://h1:2379", "http://h2:9", "http://[::1]:2379"]
        );
        assert_eq!(parsed("etcds://h").unwrap(), ["https://h:2379"]);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_to_write() {
        let rows = [
            ("etcd:", "name a server"),
            ("etcd://h/locks", "query key prefix"),
            ("etcd://ann@h", "user and password"),
            ("etcd://h?tls_name=x", "use etcds://"),
            ("etcd://h?reply_timeout=0", "must be above 0"),
            ("etcd://h?fense_base=1", "did you mean \"fence_base\""),
            ("etcds://h?tls_ca=/nowhere", "cannot be read"),
        ];
        for (url, words) in rows {
            let error = parsed(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(words), "{url}: {error}");
        }
    }
}
