//! The stores that the demos run on: those named by a flag or the environment, or servers of our own, which are
//! started when a demo first needs them and end with the program.

#[path = "../../lock-postgres/tests/servers/mod.rs"]
mod postgres;
#[path = "../../lock-redis/tests/servers/mod.rs"]
mod redis;

use std::env;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use lock::LockProvider;
use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::PgConnection;
use tempfile::TempDir;

pub(crate) use self::redis::Fleet;
pub(crate) use self::redis::until;
use crate::story::Result;

/// Servers to use instead of our own.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Urls {
    /// A Redis server; without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_REDIS_URL", value_name = "URL")]
    redis: Option<String>,
    /// A Postgres server on which we may create databases; without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_POSTGRES_URL", value_name = "URL")]
    postgres: Option<String>,
    /// One more store, where each backend is shown; may be repeated
    #[arg(long, global = true, env = "DEMOS_ALSO", value_name = "URL", value_delimiter = ' ')]
    also: Vec<String>,
}

/// What the demos run on.
pub(crate) struct Servers {
    urls: Urls,
    redis: Option<redis::Server>,
    postgres: Option<postgres::Server>,
    /// Databases of ours on a server that is not.
    databases: Vec<String>,
    folder: TempDir,
}

impl Servers {
    pub(crate) fn new(urls: Urls) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("demos-").tempdir()?;
        Ok(Self { urls, redis: None, postgres: None, databases: Vec::new(), folder })
    }

    /// Returns the URL of a Redis server.
    pub(crate) fn redis(&mut self) -> Result<String> {
        if let Some(url) = given(self.urls.redis.as_ref()) {
            return Ok(url);
        }
        if self.redis.is_none() {
            installed("redis-server", "--redis")?;
            self.redis = Some(redis::Server::start(&["--save", "", "--appendonly", "no"]));
        }
        Ok(self.redis.as_ref().map(redis::Server::url).unwrap_or_default())
    }

    /// Starts independent Redis servers that the demo may hurt.
    pub(crate) fn fleet(&self, size: usize) -> Result<Fleet> {
        installed("redis-server", "a Redis of your own does not help here")?;
        Ok(Fleet::start(size))
    }

    /// Returns the URL of an empty Postgres database.
    pub(crate) async fn postgres(&mut self) -> Result<String> {
        if let Some(url) = given(self.urls.postgres.as_ref()) {
            return self.database(&url).await;
        }
        if self.postgres.is_none() {
            installed("setpriv", "--postgres")?;
            self.postgres = Some(postgres::Server::start(&[]));
        }
        let url = self.postgres.as_ref().map(postgres::Server::url).unwrap_or_default();
        self.database(&url).await
    }

    /// Makes an empty database beside the one that the URL names.
    async fn database(&mut self, url: &str) -> Result<String> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("demos_{}_{number}", std::process::id());
        let mut admin = PgConnection::connect(url).await?;
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut admin).await?;
        let (server, query) = url.split_once('?').unwrap_or((url, ""));
        let base = server.rfind('/').map_or(server, |slash| &server[..slash]);
        self.databases.push(name.clone());
        Ok(format!("{base}/{name}{}{query}", if query.is_empty() { "" } else { "?" }))
    }

    /// Returns name and URL of each backend that can be reached.
    pub(crate) async fn all(&mut self) -> Result<Vec<(String, String)>> {
        let file = self.folder.path().join("locks.db");
        let mut all = vec![
            ("memory".to_owned(), "memory:demos".to_owned()),
            ("sqlite".to_owned(), format!("sqlite:{}", file.display())),
            ("redis".to_owned(), self.redis()?),
            ("postgres".to_owned(), self.postgres().await?),
        ];
        for url in &self.urls.also {
            let scheme = url.split(':').next().unwrap_or(url);
            all.push((scheme.to_owned(), url.clone()));
        }
        Ok(all)
    }

    /// Removes what we have made on servers that are not ours.
    pub(crate) async fn leave(&mut self) -> Result {
        let Some(url) = given(self.urls.postgres.as_ref()) else { return Ok(()) };
        if self.databases.is_empty() {
            return Ok(());
        }
        let mut admin = PgConnection::connect(&url).await?;
        for name in self.databases.drain(..) {
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut admin).await?;
        }
        Ok(())
    }
}

/// Connects one more client to the store at `url`.
pub(crate) async fn connect(url: &str) -> Result<Arc<dyn LockProvider>> {
    Ok(lock::connect(url).await?)
}

/// An empty variable names nothing.
fn given(url: Option<&String>) -> Option<String> {
    url.filter(|url| !url.is_empty()).cloned()
}

fn installed(program: &str, instead: &str) -> Result {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    let how = "install it, or name a server of yours by";
    Err(format!("{program} is not on the path: {how} {instead}").into())
}

/// Looks until something is so, or for ten seconds.
pub(crate) async fn until_async(mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result {
    for _ in 0..2000 {
        if is_so().await? {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Err("wrong: what had to come did not come within ten seconds".into())
}
