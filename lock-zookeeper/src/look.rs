//! Looking at keys: who holds them, who waits, what became of claims.

use std::collections::HashMap;
use std::sync::Arc;

use lock_core::Claim;
use lock_core::Holder;
use lock_core::Kept;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Owner;
use lock_core::Peek;
use lock_core::Result;
use zookeeper_client::Error as ZkError;
use zookeeper_client::MultiReadResult;

use crate::claims::Placed;
use crate::client::Client;
use crate::error::classify;
use crate::line::Line;
use crate::names;
use crate::names::Contender;
use crate::session::Session;

/// How many holders are described: readers can be many.
const DESCRIBED: usize = 64;

/// How many nodes are asked for in one request.
const BATCH: usize = 250;

impl Client {
    /// Describes those who hold, as far as they still do.
    pub(crate) async fn holders(
        &self,
        session: &Session,
        key: &str,
        line: &Line,
    ) -> Result<Vec<Holder>> {
        let holders = line.holders();
        let described = &holders[..holders.len().min(DESCRIBED)];
        let path =
            |contender: &Contender| format!("{}/{}", names::path_of_name(key), contender.name);
        let paths: Vec<_> = described.iter().map(path).collect();
        let answers = data_of(session, &paths).await?;
        let described = described.iter().zip(answers);
        let described = described.filter_map(|(contender, data)| {
            let (data, czxid) = data?;
            let mut holder = Holder::new().in_mode(contender.mode);
            // Others may have written what is no name.
            holder.owner = String::from_utf8(data).ok().filter(|name| Owner::new(name).is_ok());
            holder.fence = self.fence(czxid).ok();
            Some(holder)
        });
        let mut found: Vec<_> = described.collect();
        let rest = holders.iter().skip(DESCRIBED).map(|it| Holder::new().in_mode(it.mode));
        found.extend(rest);
        Ok(found)
    }

    pub(crate) async fn inspect(self: &Arc<Self>, key: &LockKey) -> Result<KeyState> {
        let session = self.session().await?;
        let line = self.line(&session, key).await?;
        self.state(&session, key.as_str(), &line).await
    }

    /// Looks at the line as the leader knows it.
    pub(crate) async fn line(&self, session: &Session, key: &LockKey) -> Result<Line> {
        let path = names::path_of(key);
        // Asked for one after the other, answered in that order.
        let (fresh, listed) = (session.zk().sync("/"), session.zk().get_children(&path));
        fresh.await.map_err(classify)?;
        match listed.await {
            // One that ends with a session has no children: somebody stored it where a key should be.
            Ok((_, stat)) if stat.ephemeral_owner != 0 => {
                Err(classify(ZkError::NoChildrenForEphemerals))
            }
            listed => lined_up(session, &path, listed.map(|(children, _)| children)),
        }
    }

    /// Describes one key.
    pub(crate) async fn state(
        &self,
        session: &Session,
        key: &str,
        line: &Line,
    ) -> Result<KeyState> {
        let waiting = line.len() - line.holders().len();
        Ok(KeyState::new(key, self.holders(session, key, line).await?, waiting as u64))
    }

    pub(crate) async fn peek(self: &Arc<Self>, claims: &[Claim]) -> Result<Vec<Peek>> {
        let session = self.session().await?;
        let lines = lines(&session, claims.iter().map(|claim| names::path_of(&claim.key))).await?;
        let peek = |claim: &Claim| {
            // Who cannot look tries, and is told why.
            let Some(line) = lines.get(&names::path_of(&claim.key)) else { return Peek::Free };
            let placed = self.place(&session, claim).ok().flatten();
            let place = placed.and_then(|placed| line.place_of(&placed.name));
            let blocked = !line.blockers(place.unwrap_or(line.len()), claim.mode).is_empty();
            let alike = line.holders().iter().all(|holder| holder.mode == claim.mode);
            let crowded = place.is_none() && (line.len() > line.holders().len() || !alike);
            match blocked {
                false => Peek::Free,
                true if crowded => Peek::Crowded { retry_in: None },
                true => Peek::Held { retry_in: None, fence: None },
            }
        };
        Ok(claims.iter().map(peek).collect())
    }

    /// Lets a quorum confirm the session, and looks which claims still are in the store.
    pub(crate) async fn keep(&self, claims: &[Claim]) -> Result<Vec<Kept>> {
        let Some(session) = self.usable() else { return Ok(vec![Kept::Gone; claims.len()]) };
        let places: Vec<_> = claims.iter().map(|claim| self.place(&session, claim)).collect();
        let known = || {
            claims
                .iter()
                .zip(&places)
                .filter_map(|(claim, it)| Some((claim, it.as_ref().ok()?.as_ref()?)))
        };
        let held: Vec<_> =
            known().filter(|(_, it)| it.holds).map(|(_, it)| it.path.clone()).collect();
        let waiting = || known().filter(|(_, it)| !it.holds);
        let waited_for = waiting().map(|(claim, _)| names::path_of(&claim.key));
        let suspects = suspects(waiting().map(|(_, place)| place));
        // Sent before the reads, which then show no older state.
        let confirmed = session.confirm_beside(&suspects);
        let (there, lines) = (read(&session, &held, Ask::Data), lines(&session, waited_for));
        let (missing, there, lines) = tokio::join!(biased; confirmed, there, lines);
        let (missing, mut there, lines) = (missing?, there?.into_iter(), lines?);
        let ghost = missing.map(|at| suspects[at]).filter(|path| shows(&lines, path));
        if let Some(path) = ghost {
            session.ignore(path);
        }
        let lease = session.lease();
        let kept = |(claim, place): (&Claim, &Result<Option<Placed>, Busy>)| match place {
            Err(Busy) => Kept::Unknown,
            Ok(None) => Kept::Gone,
            Ok(Some(place)) if place.holds => match there.next() {
                Some(MultiReadResult::Data { .. }) => Kept::Renewed { lease },
                Some(MultiReadResult::Error { err: ZkError::NoNode }) => Kept::Gone,
                // One that may not be read costs no other its renewal.
                _ => Kept::Unknown,
            },
            Ok(Some(place)) if place.blockers.iter().any(|it| Some(it.as_str()) == ghost) => {
                Kept::Queued { ahead: 0 }
            }
            Ok(Some(place)) => match lines.get(&names::path_of(&claim.key)) {
                Some(line) => match before(line, claim, place) {
                    Some(ahead) => Kept::Queued { ahead },
                    None => Kept::Gone,
                },
                None => Kept::Unknown,
            },
        };
        Ok(claims.iter().zip(&places).map(kept).collect())
    }

    /// Returns what the present session has stored for a claim, unless a call is about it.
    fn place(&self, session: &Session, claim: &Claim) -> Result<Option<Placed>, Busy> {
        let Some(entry) = self.claims.get(claim.token) else { return Ok(None) };
        let Ok(mine) = entry.try_lock() else { return Err(Busy) };
        let placed = mine.placed().filter(|it| it.fate.id() == session.fate().id() && !it.doomed);
        Ok(placed.cloned())
    }
}

/// Returns whom those wait for that come first at their keys, to ask the quorum for them: a server that has
/// lost a transaction may show somebody there who has long gone. Never nothing: the root is there.
fn suspects<'a>(waiting: impl Iterator<Item = &'a Placed>) -> Vec<&'a str> {
    let mut first: HashMap<&str, &Placed> = HashMap::new();
    for place in waiting {
        let key = &place.path[..place.path.len() - place.name.len()];
        let before = first.entry(key).or_insert(place);
        if place.czxid < before.czxid {
            *before = place;
        }
    }
    let blockers = first.values().flat_map(|place| &place.blockers);
    blockers.map(String::as_str).chain(["/"]).collect()
}

/// Whether `lines` have the node at `path`.
fn shows(lines: &HashMap<String, Line>, path: &str) -> bool {
    let found = path.rsplit_once('/').and_then(|(key, name)| lines.get(key)?.place_of(name));
    found.is_some()
}

/// Returns how many stand before a claim that waits; none if it is its turn.
fn before(line: &Line, claim: &Claim, place: &Placed) -> Option<u64> {
    let ahead = line.place_of(&place.name)?;
    Some(if line.blockers(ahead, claim.mode).is_empty() { 0 } else { ahead as u64 })
}

/// A call is about the claim: what comes of it is not known yet.
struct Busy;

/// Reads the children of a key's node, which need not be there.
pub(crate) fn lined_up(
    session: &Session,
    parent: &str,
    listed: Result<Vec<String>, ZkError>,
) -> Result<Line> {
    match listed {
        Ok(children) => Ok(session.line(parent, children)),
        Err(ZkError::NoNode) => Ok(Line::default()),
        Err(failure) => Err(classify(failure)),
    }
}

/// Reads nodes: what is stored in each, and the transaction that created it; `None` where none is.
pub(crate) async fn data_of(
    session: &Session,
    paths: &[String],
) -> Result<Vec<Option<(Vec<u8>, i64)>>> {
    let mut found = Vec::with_capacity(paths.len());
    for answer in read(session, paths, Ask::Data).await? {
        found.push(match answer {
            MultiReadResult::Data { data, stat } => Some((data, stat.czxid)),
            MultiReadResult::Error { err: ZkError::NoNode } => None,
            MultiReadResult::Error { err } => return Err(classify(err)),
            _ => None,
        });
    }
    Ok(found)
}

/// Lists nodes: the children of each; none where there is no node.
pub(crate) async fn children_of(
    session: &Session,
    paths: &[String],
) -> Result<Vec<Result<Vec<String>>>> {
    let children = |answer| match answer {
        MultiReadResult::Children { children } => Ok(children),
        MultiReadResult::Error { err } if err != ZkError::NoNode => Err(classify(err)),
        _ => Ok(Vec::new()),
    };
    Ok(read(session, paths, Ask::Children).await?.into_iter().map(children).collect())
}

/// Looks at the lines of those keys that may be looked at.
async fn lines(
    session: &Session,
    paths: impl Iterator<Item = String>,
) -> Result<HashMap<String, Line>> {
    let mut paths: Vec<_> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    let listed = children_of(session, &paths).await?;
    let line = |(path, children): (String, Result<_>)| {
        let line = session.line(&path, children.ok()?);
        Some((path, line))
    };
    Ok(paths.into_iter().zip(listed).filter_map(line).collect())
}

#[derive(Clone, Copy)]
enum Ask {
    Data,
    Children,
}

/// Asks for all `paths`, in as many requests as it takes, all sent at once.
async fn read(session: &Session, paths: &[String], ask: Ask) -> Result<Vec<MultiReadResult>> {
    let mut answers = Vec::new();
    for batch in paths.chunks(BATCH) {
        let mut reader = session.zk().new_multi_reader();
        for path in batch {
            let added = match ask {
                Ask::Data => reader.add_get_data(path),
                Ask::Children => reader.add_get_children(path),
            };
            added.map_err(classify)?;
        }
        answers.push(reader.commit());
    }
    let mut found = Vec::with_capacity(paths.len());
    for answer in answers {
        found.extend(answer.await.map_err(classify)?);
    }
    Ok(found)
}
