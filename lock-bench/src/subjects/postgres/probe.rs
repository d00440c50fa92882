//! What a server says of itself.

use async_trait::async_trait;
use sqlx::PgConnection;
use tokio::sync::Mutex;

use super::connect;
use crate::failure::Outcome;
use crate::store::Load;
use crate::store::Probe;

struct Connection(Mutex<PgConnection>);

pub(super) async fn open(url: String) -> Outcome<Box<dyn Probe>> {
    Ok(Box::new(Connection(Mutex::new(connect(&url).await?))))
}

#[async_trait]
impl Probe for Connection {
    async fn ping(&self) -> Outcome {
        sqlx::query("SELECT 1").execute(&mut *self.0.lock().await).await?;
        Ok(())
    }

    /// Statements that no transaction encloses are a transaction each.
    async fn load(&self) -> Outcome<Load> {
        let sql = "SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot(), \
                   (SELECT sum(xact_commit + xact_rollback)::bigint FROM pg_stat_database)";
        let (_, _, commands): ((), (), i64) =
            sqlx::query_as(sql).fetch_one(&mut *self.0.lock().await).await?;
        Ok(Load { commands: u64::try_from(commands).unwrap_or(0), scripts: 0 })
    }
}
