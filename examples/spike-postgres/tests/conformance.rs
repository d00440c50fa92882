//! Runs the conformance suite on the server that `LOCK_TEST_POSTGRES_URL` names.

use std::env;
use std::error::Error as StdError;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Link;
use conformance_tests::Probe;
use conformance_tests::Proxy;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use spike_postgres::Postgres;
use sqlx::Connection as _;
use sqlx::PgConnection;

const URL: &str = "LOCK_TEST_POSTGRES_URL";

/// How long the server keeps a silent session: cases that wait for that end within seconds.
const TTL: Duration = Duration::from_secs(4);

struct Server;

impl Server {
    fn url() -> Result<String> {
        env::var(URL).map_err(|_| Error::new(ErrorKind::Config, format!("set {URL}")))
    }

    /// Splits the URL into what stands before the address, the address, and the rest.
    fn parts(url: &str) -> Option<(&str, &str, &str)> {
        let from = url.rfind('@').map(|at| at + 1).or_else(|| Some(url.find("://")? + 3))?;
        let to = url[from..].find('/').map_or(url.len(), |end| from + end);
        Some((&url[..from], &url[from..to], &url[to..]))
    }

    /// Looks past the backend, as anybody with psql can.
    async fn psql<T>(sql: &str, argument: &str) -> sqlx::Result<Option<T>>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let url = Self::url().map_err(|error| sqlx::Error::Configuration(error.into()))?;
        let mut connection = PgConnection::connect(&url).await?;
        let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(argument);
        query.fetch_optional(&mut connection).await
    }
}

fn broken(error: impl StdError + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "no proxy").with_source(error)
}

#[async_trait]
impl Fixture for Server {
    fn name(&self) -> &str {
        "postgres"
    }

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(Postgres::connect(&Self::url()?, TTL).await?))
    }

    async fn proxied(&self, _namespace: &str) -> Result<(SharedBackend, Arc<dyn Link>)> {
        let url = Self::url()?;
        let (user, address, database) = Self::parts(&url)
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("{URL} has no address")))?;
        let proxy = Proxy::start(address).await.map_err(broken)?;
        let through = format!("{user}{}{database}", proxy.address());
        Ok((Arc::new(Postgres::connect(&through, TTL).await?), Arc::new(proxy)))
    }

    async fn set_up(&self) -> Result<()> {
        self.connect("").await.map(drop)
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(Vec::new())
    }

    async fn probe(&self, _namespace: &str, key: &LockKey) -> Option<Probe> {
        let free = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
        let locked = !Self::psql::<bool>(free, key.as_str()).await.ok()??;
        let shown = "SELECT token FROM lock_spike.holders WHERE lock_key = $1";
        let token = Self::psql::<String>(shown, key.as_str()).await.ok()?;
        Some(Probe { locked, token: token.and_then(|token| token.parse().ok()) })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                let end = "SELECT count(pg_terminate_backend(pid, 2000)) FROM lock_spike.held
                    WHERE starts_with(lock_key, $1)";
                let delete = "DELETE FROM lock_spike.holders WHERE starts_with(lock_key, $1)";
                let failed = |_| Unsupported("the records could not be deleted");
                Self::psql::<i64>(end, namespace).await.map_err(failed)?;
                Self::psql::<i64>(delete, namespace).await.map_err(failed)?;
                Ok(())
            }
            Fault::Corrupt(_) => Err(Unsupported("a lock is a number in the server's memory")),
            _ => Err(Unsupported("the server is not this fixture's to restart")),
        }
    }

    fn secrets(&self) -> Vec<String> {
        let url = Self::url().unwrap_or_default();
        let user = Self::parts(&url).map_or("", |(user, ..)| user).trim_end_matches('@');
        user.rsplit_once(':').map(|(_, password)| password.to_owned()).into_iter().collect()
    }
}

fn main() -> ExitCode {
    conformance_tests::run(vec![Arc::new(Server)])
}
