//! The actor that owns the listening connection: it gives hints, and looks on behalf of all, so that
//! nothing that only reads keeps the session from what is urgent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::error::During;
use crate::error::classify;
use crate::error::is_fatal;
use crate::hints::Hints;
use crate::link::Link;
use crate::link::Statement;
use crate::link::limited;
use crate::session::Request;
use crate::statements;

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the ringer is told.
pub(crate) enum Order {
    /// Show that somebody waits for a key.
    Show(String, oneshot::Sender<Result<()>>),
    Ask(Statement, oneshot::Sender<Result<Vec<PgRow>>>),
    Close,
}

/// The actor.
pub(crate) struct Ringer {
    link: Arc<Link>,
    hints: Arc<Hints>,
    session: mpsc::WeakUnboundedSender<Request>,
    listener: Option<PgListener>,
}

impl Ringer {
    pub(crate) fn new(
        link: Arc<Link>,
        hints: Arc<Hints>,
        session: mpsc::WeakUnboundedSender<Request>,
        listener: PgListener,
    ) -> Self {
        Self { link, hints, session, listener: Some(listener) }
    }

    /// Serves until nobody can ask any more.
    pub(crate) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let heard = async {
                match &mut self.listener {
                    Some(listener) => listener.try_recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Close) | None => return self.deaf(),
                    Some(order) => self.obey(order).await,
                },
                heard = heard => match heard {
                    Ok(Some(notice)) => self.pass_on(notice.payload()).await,
                    _ => self.deaf(),
                },
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Show(key, reply) => {
                let shown = self.show(&key).await;
                drop(reply.send(shown));
                for key in self.hints.take_idle() {
                    self.hide(&key).await;
                }
            }
            // Whoever was dropped before it began wants nothing any more.
            Order::Ask(_, reply) if reply.is_closed() => {}
            Order::Ask(statement, reply) => drop(reply.send(self.rows(statement).await)),
            Order::Close => self.deaf(),
        }
    }

    async fn show(&mut self, key: &str) -> Result<()> {
        if !self.hints.is_shown(key) || self.listener.is_none() {
            self.rows(sqlx::query(statements::SHOW).bind(key.to_owned())).await?;
            self.hints.show(key);
        }
        Ok(())
    }

    async fn hide(&mut self, key: &str) {
        // If it fails the connection breaks, and with it all that was shown.
        if self.rows(sqlx::query(statements::HIDE).bind(key.to_owned())).await.is_err() {
            self.deaf();
        }
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<PgRow>> {
        let listener = match &mut self.listener {
            Some(listener) => listener,
            None => self.listener.insert(self.link.listen().await?),
        };
        let late = || Error::new(ErrorKind::Unavailable, "the server did not answer in time");
        match asked(statement.fetch_all(listener)).await {
            Some(Ok(rows)) => Ok(rows),
            Some(Err(failure)) => {
                if is_fatal(&failure) {
                    self.deaf();
                }
                Err(classify(failure, During::Statement))
            }
            None => {
                self.deaf();
                Err(late().ambiguous())
            }
        }
    }

    async fn pass_on(&mut self, payload: &str) {
        let Some((told, key)) = payload.split_once(' ') else { return };
        let Some((kind, tokens)) = told.split_at_checked(1) else { return };
        if kind == "e" {
            self.look_after_session();
        } else if self.hints.tell(key, tokens) {
            self.hide(key).await;
        }
    }

    /// The connection broke: all look for themselves, and the next who asks connects again.
    fn deaf(&mut self) {
        self.listener = None;
        self.hints.break_all();
        // What broke this one may have ended the session too, which nobody listens to.
        self.look_after_session();
    }

    fn look_after_session(&self) {
        if let Some(session) = self.session.upgrade() {
            drop(session.send(Request::GiveBack));
        }
    }
}

async fn asked<T>(answer: impl Future<Output = T>) -> Option<T> {
    limited(PATIENCE, answer).await
}
