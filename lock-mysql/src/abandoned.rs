//! Steps whose callers have gone: each is still carried out, so that its connection is left clean and a
//! release can come after it.

use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use lock_core::Token;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// How long a step may go on when nobody waits for it. Then its connection is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tokens for which a step is under way that nobody waits for.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    tokens: Mutex<Vec<Token>>,
    ended: Notify,
}

impl Abandoned {
    /// Completes when no abandoned step is under way for `token`.
    pub(crate) async fn settled(&self, token: Token) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !self.lock().contains(&token) {
                return;
            }
            ended.await;
        }
    }

    /// Has a step carried out whose caller has gone; `token` is whose release has to come after it.
    pub(crate) fn see_through(
        self: &Arc<Self>,
        step: impl Future<Output: Send> + Send + 'static,
        token: Option<Token>,
        runtime: &Handle,
    ) {
        let going = token.map(|token| self.clone().begin(token));
        drop(runtime.spawn(async move {
            // When the time is up the step is dropped, and its connection with it.
            drop(tokio::time::timeout(PATIENCE, step).await);
            drop(going);
        }));
    }

    fn begin(self: Arc<Self>, token: Token) -> Going {
        self.lock().push(token);
        Going { abandoned: self, token }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An abandoned step while it is under way.
struct Going {
    abandoned: Arc<Abandoned>,
    token: Token,
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut tokens = self.abandoned.lock();
        if let Some(at) = tokens.iter().position(|token| *token == self.token) {
            tokens.swap_remove(at);
        }
        drop(tokens);
        self.abandoned.ended.notify_waiters();
    }
}
