//! Listing: a walk down the tree, level by level, past what cannot contain what is looked for.

use std::sync::Arc;

use lock_core::Cursor;
use lock_core::Page;
use lock_core::Result;

use crate::client::Client;
use crate::error::classify;
use crate::line::Line;
use crate::look::children_of;
use crate::names;
use crate::names::Contender;
use crate::session::Session;

/// A node on the way, and the key that is stored there.
struct Node {
    path: String,
    key: String,
}

impl Client {
    pub(crate) async fn list(
        self: &Arc<Self>,
        prefix: &str,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        let session = self.session().await?;
        session.zk().sync("/").await.map_err(classify)?;
        let after = cursor.map_or_else(String::new, |cursor| cursor.0);
        let mut found = keys(&session, prefix, &after).await?;
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let limit = limit.max(1);
        let more = found.len() > limit;
        found.truncate(limit);
        let mut items = Vec::with_capacity(found.len());
        for (key, line) in &found {
            let state = self.state(&session, key, line).await;
            items.push(state.map_err(|error| error.about(key))?);
        }
        let next = found.last().filter(|_| more).map(|(key, _)| Cursor(key.clone()));
        Ok(Page { items, next })
    }
}

/// Returns the keys after `after` that begin with `prefix` and have contenders.
async fn keys(session: &Session, prefix: &str, after: &str) -> Result<Vec<(String, Line)>> {
    let mut found = Vec::new();
    let mut level = vec![Node { path: "/".into(), key: String::new() }];
    while !level.is_empty() {
        let paths: Vec<_> = level.iter().map(|node| node.path.clone()).collect();
        let listed = children_of(session, &paths).await?;
        let mut below = Vec::new();
        for (node, children) in level.into_iter().zip(listed) {
            let children = children.map_err(|error| error.about(&node.key))?;
            let nested = children.iter().filter(|name| Contender::parse(name).is_none());
            below.extend(
                nested
                    .filter_map(|name| node.child(name))
                    .filter(|it| it.may_lead_to(prefix, after)),
            );
            let wanted = node.key.starts_with(prefix) && node.key.as_str() > after;
            let line = session.line(&node.path, children);
            if wanted && line.len() > 0 {
                found.push((node.key, line));
            }
        }
        level = below;
    }
    Ok(found)
}

impl Node {
    fn child(&self, name: &str) -> Option<Self> {
        let component = names::unescape(name)?;
        let root = self.key.is_empty();
        // The server's own.
        if root && component == names::RESERVED {
            return None;
        }
        Some(Self {
            path: format!("{}/{name}", if root { "" } else { &self.path }),
            key: if root { component } else { format!("{}/{component}", self.key) },
        })
    }

    /// Whether this key, or one below it, begins with `prefix` and comes after `after`.
    fn may_lead_to(&self, prefix: &str, after: &str) -> bool {
        let leads = self.key.starts_with(prefix) || prefix.starts_with(&self.key);
        leads && (self.key.as_str() > after || after.starts_with(&self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_lead_on_is_walked() {
        let node = |key: &str| Node { path: String::new(), key: key.into() };
        for (key, prefix, after, leads) in [
            ("a", "", "", true),
            ("a", "a/b", "", true),
            ("a/c", "a/b", "", false),
            ("ab", "a/b", "", false),
            ("a", "", "b", false),
            ("b", "", "b/c", true),
            ("c", "", "b/c", true),
        ] {
            assert_eq!(node(key).may_lead_to(prefix, after), leads, "{key} {prefix} {after}");
        }
    }
}
