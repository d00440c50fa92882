//! Reading the state of keys.

use std::collections::HashMap;

use lock_core::Result;
use sqlx::postgres::PgRow;

use crate::link::Link;
use crate::link::Statement;
use crate::link::column;
use crate::scene::Row;
use crate::scene::Scene;

/// The statement that looks at some keys.
pub(crate) fn statement(link: &Link, keys: &[String]) -> Statement {
    let mut distinct = keys.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    link.statement(&link.statements.look).bind(distinct)
}

/// Reads what it returned: one scene for each of `keys`, or what is wrong with its rows.
pub(crate) fn scenes(keys: &[String], rows: &[PgRow]) -> Result<Vec<Result<Scene>>> {
    let mut distinct: Vec<_> = keys.iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let mut found: HashMap<usize, Vec<&PgRow>> = HashMap::new();
    for row in rows {
        let n: i64 = column(row, 0)?;
        found.entry(usize::try_from(n - 1).unwrap_or(usize::MAX)).or_default().push(row);
    }
    let scene = |key: &String| {
        let mut scene = Scene::default();
        let rows = distinct.binary_search(&key).ok().and_then(|n| found.get(&n));
        for row in rows.into_iter().flatten() {
            scene.add(key, read(row)?)?;
        }
        Ok(scene)
    };
    Ok(keys.iter().map(scene).collect())
}

fn read(row: &PgRow) -> Result<Row> {
    Ok(Row {
        key: column(row, 1)?,
        token: column(row, 2)?,
        mode: column(row, 3)?,
        fence: column(row, 4)?,
        owner: column(row, 5)?,
        since: column(row, 6)?,
        place: column(row, 7)?,
    })
}
