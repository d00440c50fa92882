//! Looks that change nothing.

use std::collections::HashMap;

use etcd_client::GetResponse;
use etcd_client::KeyValue;
use etcd_client::Txn;
use etcd_client::TxnOp;
use etcd_client::TxnOpResponse;
use lock_core::Claim;
use lock_core::KeyState;
use lock_core::LockKey;
use lock_core::Peek;
use lock_core::Result;

use crate::backend::Inner;
use crate::batch::Settled;
use crate::client::LARGE;
use crate::error::Failure;
use crate::keys;
use crate::line::Line;
use crate::requests;

impl Inner {
    /// Carries out one transaction.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<Settled, Failure> {
        self.route.settle(txn).await
    }

    /// Carries out steps that read, a hundred at a time; one answer each, in order.
    pub(crate) async fn read(&self, steps: Vec<TxnOp>) -> Result<Vec<Answer>, Failure> {
        let mut answers = Vec::with_capacity(steps.len());
        for steps in steps.chunks(requests::STEPS) {
            let Settled { answer, revision } = self.txn(Txn::new().and_then(steps)).await?;
            for response in answer.op_responses() {
                let TxnOpResponse::Get(found) = response else { return Err(Failure::nonsense()) };
                answers.push(Answer { found, revision });
            }
        }
        if answers.len() == steps.len() { Ok(answers) } else { Err(Failure::nonsense()) }
    }

    /// Reads the line from the look that ends a transaction.
    pub(crate) async fn line_of(&self, key: &LockKey, settled: &Settled) -> Result<Line, Failure> {
        match settled.answer.op_responses().pop() {
            Some(TxnOpResponse::Get(found)) => {
                self.line_from(key, Answer { found, revision: settled.revision }).await
            }
            _ => Err(Failure::nonsense()),
        }
    }

    /// Reads the line from its first page, and the other pages at the same revision.
    pub(crate) async fn line_from(&self, key: &LockKey, first: Answer) -> Result<Line, Failure> {
        let Answer { mut found, revision } = first;
        let mut kvs: Vec<KeyValue> = Vec::new();
        loop {
            let more = found.more();
            let page = found.take_kvs();
            let next = page.last().filter(|_| more).map(|last| keys::after(key, last.key()));
            kvs.extend(page.into_iter().filter(|kv| keys::is_contender(key, kv)));
            let Some(from) = next else { return Ok(Line::new(key, &kvs, revision)) };
            found = self.page(from, keys::range(key).1, revision).await?;
        }
    }

    /// Reads one page of a range, at `revision`.
    pub(crate) async fn page(
        &self,
        from: Vec<u8>,
        to: Vec<u8>,
        revision: i64,
    ) -> Result<GetResponse, Failure> {
        let get = |client: &etcd_client::Client| {
            let (from, page) = (from.clone(), requests::page(to.clone()).with_revision(revision));
            let mut client = client.kv_client().max_decoding_message_size(LARGE);
            async move { client.get(from, Some(page)).await }
        };
        self.route.ask(get).await
    }

    pub(crate) async fn line(&self, key: &LockKey) -> Result<Line, Failure> {
        let answer = self.read(vec![requests::look(key)]).await?.pop();
        self.line_from(key, answer.ok_or_else(Failure::nonsense)?).await
    }

    /// Reads the line of each key once, however many claims want it.
    pub(crate) async fn lines<'a>(
        &self,
        claims: impl Iterator<Item = &'a Claim>,
    ) -> Result<HashMap<&'a LockKey, Line>, Failure> {
        let mut keys: Vec<_> = claims.map(|claim| &claim.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let answers = self.read(keys.iter().map(|key| requests::look(key)).collect()).await?;
        let mut lines = HashMap::with_capacity(keys.len());
        for (key, answer) in keys.into_iter().zip(answers) {
            lines.insert(key, self.line_from(key, answer).await?);
        }
        Ok(lines)
    }

    pub(crate) async fn peek(&self, claims: &[Claim]) -> Result<Vec<Peek>, Failure> {
        let lines = self.lines(claims.iter()).await?;
        let peek = |claim: &Claim| {
            let line = &lines[&claim.key];
            let entry = self.claims.find(claim.token);
            let has_place = entry.as_ref().is_some_and(|it| it.mine().revision.is_some());
            let free = match entry.and_then(|entry| line.place(&entry.own)) {
                Some(place) => place < line.holding(),
                // Whoever had a place and has it no more must stand in line afresh.
                None => has_place || line.admits(claim.mode),
            };
            if free { Peek::Free } else { Peek::Held { retry_in: None, fence: None } }
        };
        Ok(claims.iter().map(peek).collect())
    }

    pub(crate) fn state(&self, name: &str, line: &Line) -> KeyState {
        KeyState::new(name, line.holders(self.fence_base), line.waiting())
    }
}

/// What one step read, and at which revision of the store.
pub(crate) struct Answer {
    pub(crate) found: GetResponse,
    pub(crate) revision: i64,
}
