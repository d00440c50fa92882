//! The stores that the demos run on: those named by a flag or the environment, or servers of our own, which are
//! started when a demo first needs them and end with the program.

use std::collections::BTreeMap;
use std::sync::Arc;

use lock::LockProvider;
use tempfile::TempDir;
use test_servers::ETCD;
use test_servers::Kind;
use test_servers::MYSQL;
use test_servers::POSTGRES;
use test_servers::REDIS;
use test_servers::Server;
use test_servers::ZOOKEEPER;

use crate::databases::Databases;
use crate::fleet::Fleet;
use crate::story::Failure;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::urls::Urls;

/// What the demos run on.
pub(crate) struct Servers {
    urls: Urls,
    running: BTreeMap<&'static str, Server>,
    redlock: Option<Fleet>,
    databases: Databases,
    folder: Option<TempDir>,
}

/// A store that is not to be had here, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Absent(String);

/// Where each backend is shown, in this order.
const STORES: [&str; 8] =
    ["memory", "sqlite", "redis", "redlock", "mysql", "postgres", "etcd", "zookeeper"];

impl Servers {
    pub(crate) fn new(urls: Urls) -> Self {
        let (running, redlock, folder) = (BTreeMap::new(), None, None);
        Self { urls, running, redlock, databases: Databases::default(), folder }
    }

    /// Returns the URL of a Redis server.
    pub(crate) fn redis(&mut self) -> Result<String> {
        self.server(&REDIS)
    }

    /// Returns the URL of an empty MySQL database.
    pub(crate) async fn mysql(&mut self) -> Result<String> {
        let url = self.server(&MYSQL)?;
        self.databases.make(&url, self.urls.given(&MYSQL).is_some()).await
    }

    /// Returns the URL of an empty Postgres database.
    pub(crate) async fn postgres(&mut self) -> Result<String> {
        let url = self.server(&POSTGRES)?;
        self.databases.make(&url, self.urls.given(&POSTGRES).is_some()).await
    }

    /// Starts independent Redis servers that the demo may hurt.
    pub(crate) fn fleet(&self, size: usize) -> Result<Fleet> {
        self.check("redlock")?;
        if REDIS.program().find().is_none() {
            return Err(lacks(&REDIS, ""));
        }
        Fleet::start(size)
    }

    /// Returns a URL of the store that people call so, or that is named by its URL.
    pub(crate) async fn store(&mut self, name: &str) -> Result<String> {
        self.check(name)?;
        match name {
            "memory" => Ok("memory:demos".to_owned()),
            "sqlite" => self.file(),
            "redis" => Ok(with(&self.redis()?, &prefix())),
            "redlock" => self.redlock().await,
            "mysql" => self.mysql().await,
            "postgres" => self.postgres().await,
            "etcd" if !cfg!(feature = "etcd") => {
                Err(Absent("it is built with --features etcd, which needs protoc".into()).into())
            }
            "etcd" => Ok(with(&self.server(&ETCD)?, &prefix())),
            "zookeeper" => Ok(with(&self.server(&ZOOKEEPER)?, &prefix())),
            url if url.contains(':') => Ok(url.to_owned()),
            other => Err(format!("{other} is no URL, and none of {}", STORES.join(", ")).into()),
        }
    }

    /// Returns name and URL of each backend that is to be had, and says which is not.
    pub(crate) async fn all(&mut self, story: &Story) -> Result<Vec<(String, String)>> {
        let mut all = Vec::new();
        for name in STORES {
            match self.store(name).await {
                Ok(url) => all.push((name.to_owned(), url)),
                Err(error) if error.is::<Absent>() => story.line(format!("{name:<12}{error}")),
                Err(error) => return Err(error),
            }
        }
        for url in &self.urls.also {
            let scheme = url.split(':').next().unwrap_or(url);
            all.push((scheme.to_owned(), url.clone()));
        }
        Ok(all)
    }

    /// Removes what we have made on servers that are not ours.
    pub(crate) async fn leave(&mut self) -> Result {
        self.databases.drop().await
    }

    /// Returns the URL of a server: the one that was given, or one of ours.
    fn server(&mut self, kind: &'static Kind) -> Result<String> {
        self.check(kind.name())?;
        if let Some(url) = self.urls.given(kind) {
            return Ok(url);
        }
        if let Some(server) = self.running.get(kind.name()) {
            return Ok(server.url().to_owned());
        }
        if kind.program().find().is_none() {
            let instead = format!(", or name a server of yours by --{} URL", kind.name());
            return Err(lacks(kind, &instead));
        }
        let server = kind.start()?;
        let url = server.url().to_owned();
        self.running.insert(kind.name(), server);
        Ok(url)
    }

    fn check(&self, name: &str) -> Result {
        if self.urls.exclude(name) {
            Err(Absent(format!("{name} is excluded")).into())
        } else {
            Ok(())
        }
    }

    fn file(&mut self) -> Result<String> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => tempfile::Builder::new().prefix("demos-").tempdir()?,
        };
        let url = format!("sqlite:{}", folder.path().join("locks.db").display());
        self.folder = Some(folder);
        Ok(url)
    }

    /// Three servers are the least that outlive one of them.
    async fn redlock(&mut self) -> Result<String> {
        let fleet = match self.redlock.take() {
            Some(fleet) => fleet,
            None => self.fleet(3)?,
        };
        let fleet = self.redlock.insert(fleet);
        fleet.await_age(ms(2000)).await?;
        Ok(fleet.url("ttl_max=2s&ttl=2s"))
    }
}

/// Connects one more client to the store at `url`.
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn LockProvider>> {
    Ok(lock::connect(url).await?)
}

/// Adds a query key to a URL.
pub(crate) fn with(url: &str, key: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{key}")
}

/// Keeps the keys of this run from those of another on the same server.
fn prefix() -> String {
    format!("prefix=demos-{}:", std::process::id())
}

fn lacks(kind: &Kind, instead: &str) -> Failure {
    let (lack, packages) = (kind.program().lack(), kind.program().packages().join(" "));
    Absent(format!("{lack}: apt-get install {packages}{instead}")).into()
}
