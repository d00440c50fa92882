//! Waiting until replicas have a lock that was acquired (`WAIT`), if the URL asks for it.
//!
//! It makes a failover that forgets the lock less likely, not impossible: see the documentation. A server
//! executes nothing else on a connection that waits, so those that acquire get one of their own, and renewals
//! never stand behind a replica that hangs.

use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use redis::Cmd;
use redis::Value;

use crate::error::During;
use crate::error::Failure;
use crate::reply;

/// How many replicas have to have a lock, and how long to wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) replicas: u64,
    pub(crate) timeout: Duration,
}

impl Copies {
    /// The command to send right behind the script that acquires.
    pub(crate) fn command(self) -> Cmd {
        let mut command = redis::cmd("WAIT");
        // To the server 0 means for ever.
        command.arg(self.replicas).arg(self.timeout.as_millis().max(1).to_string());
        command
    }

    /// Judges what the server answered to it.
    pub(crate) fn check(self, answer: Result<Value, Failure>) -> Result<()> {
        let wanted = self.replicas;
        let reached = reply::count(answer.map_err(|it| it.into_error(During::Request))?)?;
        if reached >= wanted {
            return Ok(());
        }
        let message = format!(
            "{reached} of the {wanted} replicas that are wanted had the lock within {:?}",
            self.timeout
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}
