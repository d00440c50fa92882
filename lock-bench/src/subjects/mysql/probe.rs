//! What a server says of itself.

use async_trait::async_trait;
use sqlx::MySqlConnection;
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
        let sql = "SELECT CAST(variable_value AS UNSIGNED) FROM information_schema.global_status \
                   WHERE variable_name = 'QUESTIONS'";
        let commands = sqlx::query_scalar(sql).fetch_one(&mut *self.0.lock().await).await?;
        Ok(Load { commands, scripts: 0 })
    }
}
