//! Databases of ours on SQL servers, each of which is empty and used by one demo.

use sqlx::AssertSqlSafe;
use sqlx::Connection as _;
use sqlx::MySqlConnection;
use sqlx::PgConnection;

use crate::story::Result;

/// Those that were made.
#[derive(Default)]
pub(crate) struct Databases {
    made: usize,
    /// URL of a server that is not ours, and name of a database on it that is.
    to_drop: Vec<(String, String)>,
}

impl Databases {
    /// Makes an empty database beside the one that the URL names; `drop` if its server outlives us.
    pub(crate) async fn make(&mut self, url: &str, drop: bool) -> Result<String> {
        let name = format!("demos_{}_{}", std::process::id(), self.made);
        self.made += 1;
        execute(url, format!("CREATE DATABASE {name}")).await?;
        if drop {
            self.to_drop.push((url.to_owned(), name.clone()));
        }
        let (server, query) = url.split_once('?').unwrap_or((url, ""));
        let base = server.rfind('/').map_or(server, |slash| &server[..slash]);
        Ok(format!("{base}/{name}{}{query}", if query.is_empty() { "" } else { "?" }))
    }

    /// Drops those on servers that outlive us.
    pub(crate) async fn drop(&mut self) -> Result {
        for (url, name) in self.to_drop.drain(..) {
            // Sessions of ours may still be open; MySQL does not mind them.
            let force = if is_mysql(&url) { "" } else { " WITH (FORCE)" };
            execute(&url, format!("DROP DATABASE IF EXISTS {name}{force}")).await?;
        }
        Ok(())
    }
}

async fn execute(url: &str, statement: String) -> Result {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement));
    if is_mysql(url) {
        let url = url.replacen("mariadb:", "mysql:", 1);
        statement.execute(&mut MySqlConnection::connect(&url).await?).await?;
    } else {
        statement.execute(&mut PgConnection::connect(url).await?).await?;
    }
    Ok(())
}

fn is_mysql(url: &str) -> bool {
    url.starts_with("mysql:") || url.starts_with("mariadb:")
}
