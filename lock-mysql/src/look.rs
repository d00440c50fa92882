//! What can be told without writing: each look is one SELECT, so one moment of the store.

use std::collections::BTreeMap;
use std::collections::HashMap;

use lock_core::Claim;
use lock_core::Cursor;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Result;
use lock_core::Scene;
use sqlx::mysql::MySqlRow;

use crate::client::Step;
use crate::error::During;
use crate::error::Failure;
use crate::error::classify;
use crate::row::Row;
use crate::row::Seen;
use crate::session::Session;
use crate::session::Values;
use crate::statements::BATCH;

/// Tells each of the waiters whether an attempt would be served. One whose key makes no sense is told to
/// try, so that its own attempt says why and the others go on.
pub(crate) struct Look(pub(crate) Vec<Claim>);

impl Step for Look {
    type Output = Vec<Peek>;

    async fn run(&self, session: &mut Session) -> Result<Vec<Peek>, Failure> {
        let mut peeks = Vec::with_capacity(self.0.len());
        for claims in self.0.chunks(BATCH) {
            let scenes = scenes(session, claims).await?;
            peeks.extend(claims.iter().map(|claim| match scenes.get(claim.key.as_str()) {
                Some(Ok(scene)) => scene.peek(claim),
                Some(Err(_)) | None => Peek::Free,
            }));
        }
        Ok(peeks)
    }
}

/// Shows one key.
pub(crate) struct Inspect(pub(crate) LockKey);

impl Step for Inspect {
    type Output = KeyState;

    async fn run(&self, session: &mut Session) -> Result<KeyState, Failure> {
        let rows = look(session, &[self.0.as_str()]).await?;
        Ok(Seen::of(&rows)?.scene.state(self.0.as_str()))
    }
}

/// Shows a page of the keys that are held or waited for.
pub(crate) struct List {
    pub(crate) prefix: String,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
}

impl Step for List {
    type Output = Page;

    async fn run(&self, session: &mut Session) -> Result<Page, Failure> {
        let limit = self.limit.max(1);
        let end = end_of(&self.prefix);
        let values = Values {
            first: &self.prefix,
            after: self.after.as_ref().map_or("", |cursor| cursor.0.as_str()),
            end: &end,
            limit: i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1),
            ..Values::default()
        };
        let rows = read(&session.rows(|sql| &sql.list, &values).await?)?;
        let by_key = by_key(&rows);
        let state = |(key, rows): (&&str, &Vec<&Row>)| {
            let seen = Seen::of(rows.iter().copied()).map_err(|error| error.about(key))?;
            Ok(seen.scene.state(key))
        };
        let page = by_key.iter().take(limit).map(state).collect::<Result<Vec<_>>>()?;
        let last = page.last().map(|last| Cursor(last.key.clone()));
        // The key's row may say that there is a line when all who stood in it have died.
        let is_in_use = |state: &KeyState| state.is_locked() || state.waiting > 0;
        let items = page.into_iter().filter(is_in_use).collect();
        Ok(Page { items, next: last.filter(|_| by_key.len() > limit) })
    }
}

/// Reads the keys of some claims; those without a trace are left out.
pub(crate) async fn scenes(
    session: &mut Session,
    claims: &[Claim],
) -> Result<HashMap<String, Result<Scene>>, Failure> {
    let mut keys: Vec<&str> = claims.iter().map(|claim| claim.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = look(session, &keys).await?;
    let scene = |(key, rows): (&str, Vec<&Row>)| {
        (key.to_owned(), Seen::of(rows.iter().copied()).map(|seen| seen.scene))
    };
    Ok(by_key(&rows).into_iter().map(scene).collect())
}

pub(crate) async fn look(session: &mut Session, keys: &[&str]) -> Result<Vec<Row>, Failure> {
    let values = Values { keys, ..Values::default() };
    read(&session.rows(|sql| &sql.look, &values).await?)
}

fn read(rows: &[MySqlRow]) -> Result<Vec<Row>, Failure> {
    let rows = rows.iter().map(Row::read).collect::<Result<_, _>>();
    rows.map_err(|failure| classify(failure, During::Look))
}

fn by_key(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        by_key.entry(row.key.as_str()).or_default().push(row);
    }
    by_key
}

/// Returns a text after all keys that begin with `prefix` and before all others behind them: the order
/// of UTF-8 is the order of code points.
fn end_of(prefix: &str) -> String {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return chars.into_iter().collect();
        }
    }
    // Longer than any key.
    char::MAX.to_string().repeat(lock_core::MAX_KEY_BYTES / char::MAX.len_utf8() + 1)
}
