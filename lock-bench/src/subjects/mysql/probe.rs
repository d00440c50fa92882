//! What a server says of itself.

use async_trait::async_trait;
use sqlx::MySqlConnection;
use sqlx::Row as _;
use tokio::sync::Mutex;

use super::connect;
use crate::failure::Outcome;
use crate::store::Load;
use crate::store::Probe;

struct Connection(Mutex<MySqlConnection>);

pub(super) async fn open(url: String) -> Outcome<Box<dyn Probe>> {
    Ok(Box::new(Connection(Mutex::new(connect(&url).await?))))
}

#[async_trait]
impl Probe for Connection {
    async fn ping(&self) -> Outcome {
        sqlx::query("SELECT 1").execute(&mut *self.0.lock().await).await?;
        Ok(())
    }

    async fn load(&self) -> Outcome<Load> {
        let status = sqlx::raw_sql("SHOW GLOBAL STATUS LIKE 'Questions'");
        let row = status.fetch_one(&mut *self.0.lock().await).await?;
        let commands = row.try_get_unchecked::<String, _>(1)?.parse()?;
        Ok(Load { commands, scripts: 0 })
    }
}
