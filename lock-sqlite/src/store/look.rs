//! What can be told without writing: each look is one SELECT, so one moment of the store.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::rc::Rc;

use lock_core::Claim;
use lock_core::Cursor;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Page;
use lock_core::Peek;
use lock_core::Result;
use lock_core::Scene;
use rusqlite::params;
use rusqlite::types::Value;

use super::Store;
use crate::boot::Moment;
use crate::row::Row;
use crate::scene::Seen;

impl Store {
    /// Tells each of the waiters whether an attempt would be served. One whose key makes no sense is
    /// told to try, so that its own attempt says why and the others go on.
    pub(crate) fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>> {
        let keys: Vec<LockKey> = claims.iter().map(|claim| claim.key.clone()).collect();
        let scenes = self.scenes(&keys, &self.boot.moment())?;
        let peek = |claim: &Claim| match scenes.get(claim.key.as_str()) {
            Some(Ok(scene)) => scene.peek(claim),
            Some(Err(_)) | None => Peek::Free,
        };
        Ok(claims.iter().map(peek).collect())
    }

    /// Tells of each of the waiters whether it is to try: it would be served, or should stand in line. Of
    /// those in line only the first are looked at, so that a wake-up costs the same however many wait.
    pub(crate) fn due(&self, claims: &[Claim]) -> Result<Vec<bool>> {
        let at = self.boot.moment();
        let keys: Vec<LockKey> = claims.iter().map(|claim| claim.key.clone()).collect();
        let rows = if claims.iter().any(|claim| claim.queue) {
            self.rows(&self.sql.front, params![at.boot, at.now, array(&keys)], Row::read)?
        } else {
            self.look(&keys)?
        };
        let scenes = scenes(&rows, &at);
        let is_due = |claim: &Claim| match scenes.get(claim.key.as_str()) {
            Some(Ok(scene)) if claim.queue && scene.standing(claim.token).is_none() => false,
            Some(Ok(scene)) => !matches!(scene.peek(claim), Peek::Held { .. }),
            Some(Err(_)) | None => true,
        };
        Ok(claims.iter().map(is_due).collect())
    }

    pub(crate) fn inspect(&self, key: &LockKey) -> Result<KeyState> {
        let rows = self.look(std::slice::from_ref(key))?;
        Ok(Seen::of(&rows, &self.boot.moment())?.scene.state(key.as_str()))
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&Cursor>, limit: usize) -> Result<Page> {
        let at = self.boot.moment();
        let limit = limit.max(1);
        let after = after.map_or("", |cursor| cursor.0.as_str());
        let keys = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let end = end_of(prefix);
        let values = params![at.boot, at.now, at.booted, prefix, after, end, keys];
        let rows = self.rows(&self.sql.list, values, Row::read)?;
        let by_key = by_key(&rows);
        let state = |(key, rows): (&&str, &Vec<&Row>)| {
            let seen = Seen::of(rows.iter().copied(), &at).map_err(|error| error.about(key))?;
            Ok(seen.scene.state(key))
        };
        let items = by_key.iter().take(limit).map(state).collect::<Result<Vec<_>>>()?;
        let more = (by_key.len() > limit).then(|| items.last().map(|last| last.key.clone()));
        Ok(Page { items, next: more.flatten().map(Cursor) })
    }

    /// Reads some keys; those without a trace are left out.
    pub(super) fn scenes(
        &self,
        keys: &[LockKey],
        at: &Moment,
    ) -> Result<HashMap<String, Result<Scene>>> {
        Ok(scenes(&self.look(keys)?, at))
    }

    pub(super) fn look(&self, keys: &[LockKey]) -> Result<Vec<Row>> {
        self.rows(&self.sql.look, [array(keys)], Row::read)
    }
}

fn scenes(rows: &[Row], at: &Moment) -> HashMap<String, Result<Scene>> {
    let scene = |(key, rows): (&str, Vec<&Row>)| {
        (key.to_owned(), Seen::of(rows, at).map(|seen| seen.scene))
    };
    by_key(rows).into_iter().map(scene).collect()
}

fn array(keys: &[LockKey]) -> Rc<Vec<Value>> {
    Rc::new(keys.iter().map(|key| Value::Text(key.as_str().to_owned())).collect())
}

fn by_key(rows: &[Row]) -> BTreeMap<&str, Vec<&Row>> {
    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        by_key.entry(row.key.as_str()).or_default().push(row);
    }
    by_key
}

/// Returns the first text after all that begin with `prefix`, if there is one: the order of UTF-8
/// is the order of code points.
fn end_of(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}
