//! The lock table of MySQL as its operators see it: indexed, read and cleaned by hand, beside locks that are held.

use lock::LockOptions;
use lock::LockProvider;
use sqlx::Connection as _;
use sqlx::MySqlConnection;
use sqlx::Row as _;

use crate::servers::Servers;
use crate::servers::connect;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

const INDEXES: [&str; 2] = [
    "CREATE INDEX idx_lock_key ON distributed_locks(lock_key)",
    "CREATE INDEX idx_expires_at ON distributed_locks(expires_at)",
];
const SHOW: &str =
    "SELECT lock_key, owner, expires_at FROM distributed_locks WHERE lock_key LIKE 'workflow_%'";
const CLEAN: &str = "DELETE FROM distributed_locks WHERE expires_at < NOW()";
const CONNECTIONS: &str =
    "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()";

pub(crate) async fn run(story: &Story, servers: &mut Servers) -> Result {
    let url = servers.mysql().await?;
    let (locks, mut mysql) = (connect(&url).await?, MySqlConnection::connect(&url).await?);
    story.part("A replica runs work_123, and the one that ran work_122 has crashed:");
    let owner = |name| LockOptions::new().owner(name);
    let held = locks.lock("workflow_execution:work_123", &owner("replica-1")).await?;
    let brief = owner("replica-2").ttl(ms(500));
    locks.lock("workflow_execution:work_122", &brief).await?.into_handle()?;
    for index in INDEXES {
        sqlx::raw_sql(index).execute(&mut mysql).await?;
        story.tell("mysql", index);
    }
    // NOW() counts whole seconds: it says up to a second too little.
    pause(ms(1800)).await;
    let before = show(story, &mut mysql).await?;
    let cleaned = sqlx::raw_sql(CLEAN).execute(&mut mysql).await?.rows_affected();
    story.tell("mysql", format!("{CLEAN}: {cleaned}"));
    let after = show(story, &mut mysql).await?;
    story.check(before == 2 && after == 1, "the table shows who holds what")?;
    story.check(cleaned == 1, "and is cleaned of the expired, and of nothing else")?;

    locks.lock("workflow_execution:work_121", &brief).await?.into_handle()?;
    pause(ms(1200)).await;
    let cleaned = locks.cleanup_expired().await?;
    story.tell("we", format!("cleanup_expired: {cleaned}"));
    story.check(cleaned >= 1, "we clean it as well; locks are free without it")?;
    let state = locks.status("workflow_execution:work_123").await?;
    let holders: Vec<_> = state.holders.iter().map(ToString::to_string).collect();
    story.tell("we", format!("status: held by {}", holders.join(", ")));
    let owner = state.holders.first().and_then(|holder| holder.owner.clone());
    story.check(held.is_valid() && owner.as_deref() == Some("replica-1"), "so do we")?;
    held.unlock().await?;
    many(story, &*locks, &mut mysql).await?;
    Ok(mysql.close().await?)
}

async fn show(story: &Story, mysql: &mut MySqlConnection) -> Result<usize> {
    let rows = sqlx::raw_sql(SHOW).fetch_all(mysql).await?;
    story.tell("mysql", SHOW);
    for row in &rows {
        let columns = (0..3).map(|at| row.try_get_unchecked::<String, _>(at));
        let columns = columns.collect::<sqlx::Result<Vec<_>>>()?;
        story.line(format!("{:14}{}", "", columns.join("  ")));
    }
    Ok(rows.len())
}

/// There is no pool to be set: what is held does not hold connections.
async fn many(story: &Story, locks: &dyn LockProvider, mysql: &mut MySqlConnection) -> Result {
    story.part("25 locks at once:");
    let keys: Vec<_> = (1..=25).map(|number| format!("workflow_execution:{number}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let guards = locks.lock_many(&keys, &LockOptions::new()).await?;
    let connections: i64 = sqlx::query_scalar(CONNECTIONS).fetch_one(mysql).await?;
    guards.unlock().await?;
    let ours = connections - 1;
    story
        .check(ours <= 4, format!("they need {ours} of the 4 connections that we have at the most"))
}
