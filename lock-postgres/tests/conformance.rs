//! Runs the conformance suite on the server that `LOCK_TEST_POSTGRES_URL` names, or on one of its own.

mod servers;

use std::env;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Link;
use conformance_tests::Probe;
use conformance_tests::Proxy;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::ConnectUrl;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_postgres::DRIVER;
use sqlx::Connection as _;
use sqlx::PgConnection;

use crate::servers::Server;

const URL: &str = "LOCK_TEST_POSTGRES_URL";

fn main() -> ExitCode {
    conformance_tests::run(vec![Arc::new(Postgres { own: Mutex::default() })])
}

/// One server.
struct Postgres {
    own: Mutex<Option<Server>>,
}

impl Postgres {
    fn url(&self) -> Result<String> {
        if let Ok(url) = env::var(URL) {
            return Ok(url);
        }
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let unset = || Error::new(ErrorKind::Config, format!("set {URL}"));
        own.as_ref().map(Server::url).ok_or_else(unset)
    }

    async fn open(url: &str) -> Result<SharedBackend> {
        DRIVER.open(ConnectUrl::parse(url)?).await
    }

    /// Splits the URL into what stands before the address, the address, and the rest.
    fn parts(url: &str) -> Option<(&str, &str, &str)> {
        let from = url.rfind('@').map(|at| at + 1).or_else(|| Some(url.find("://")? + 3))?;
        let to = url[from..].find('/').map_or(url.len(), |end| from + end);
        Some((&url[..from], &url[from..to], &url[to..]))
    }

    /// Looks past the backend, as anybody with psql can.
    async fn psql<T>(&self, sql: &'static str, argument: &str) -> Option<T>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut connection = PgConnection::connect(&self.url().ok()?).await.ok()?;
        sqlx::query_scalar(sql).bind(argument).fetch_optional(&mut connection).await.ok()?
    }
}

fn broken(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "no proxy").with_source(error)
}

#[async_trait]
impl Fixture for Postgres {
    fn name(&self) -> &str {
        "postgres"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Self::open(&self.url()?).await
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let url = self.url()?;
        let (user, address, database) = Self::parts(&url)
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("{URL} has no address")))?;
        let proxy = Proxy::start(address).await.map_err(broken)?;
        let through = format!("{user}{}{database}", proxy.address());
        Ok((Self::open(&through).await?, Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        if env::var(URL).is_err() {
            let server = Server::start(&["max_connections=300"]);
            *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        }
        self.connect("").await.map(drop)
    }

    async fn tear_down(&self) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(URL.to_owned(), self.url().ok()?)])
    }

    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let free = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
        let locked = !self.psql::<bool>(free, key.as_str()).await?;
        let shown = "SELECT token FROM locks.holders WHERE lock_key = $1";
        let token = self.psql::<String>(shown, key.as_str()).await;
        Some(Probe { locked, token: token.and_then(|token| token.parse().ok()) })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                let end = "SELECT count(pg_terminate_backend(pid, 2000)) FROM
                    (SELECT DISTINCT pid FROM locks.held WHERE starts_with(lock_key, $1)) p";
                let delete = "WITH gone AS (
                    DELETE FROM locks.holders WHERE starts_with(lock_key, $1) RETURNING 1)
                    SELECT count(*) FROM gone";
                let failed = Unsupported("the records could not be deleted");
                self.psql::<i64>(end, namespace).await.ok_or(failed)?;
                self.psql::<i64>(delete, namespace).await.map(drop).ok_or(failed)
            }
            Fault::Corrupt(_) => Err(Unsupported("a lock is a number in the server's memory")),
            _ => Err(Unsupported("other cases use the server at the same time")),
        }
    }

    fn secrets(&self) -> Vec<String> {
        let url = self.url().unwrap_or_default();
        let user = Self::parts(&url).map_or("", |(user, ..)| user).trim_end_matches('@');
        let user = user.split_once("://").map_or(user, |(_, user)| user);
        user.rsplit_once(':').map(|(_, password)| password.to_owned()).into_iter().collect()
    }
}
