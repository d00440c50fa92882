//! The Lua text, all of it. Each script is one atomic step (S1).
//!
//! Keys of every script, all in one slot: 1 the lock, 2 its *card*, 3 its holders, 4 its line.
//!
//! - The **lock** is a string that expires: the token of an exclusive holder, or `shared:TOKEN` or
//!   `permits:N:TOKEN` of the latest of several. It alone decides whether the key is taken: who
//!   deletes it by hand has freed the key, and who sets it with `SET NX PX` has locked it.
//! - The **card** is a hash: `f` the last fence, `t`, `o`, `a` token, owner and time in µs of the last
//!   exclusive holder, `h:TOKEN` the fence, time and owner of one of several holders, `p:TOKEN` until when a
//!   place in line lives, in ms, and its mode.
//! - The **holders** are a sorted set of tokens by the end of their leases in ms, meaningful only while
//!   the lock says `shared:` or `permits:`.
//! - The **line** is a sorted set of tokens by arrival.
//!
//! Scripts read all that can be of a wrong type before they write, so that an error leaves nothing
//! held (S12). A number of many digits becomes a string by `%.0f` only: Lua would print a fence as `1.79e+15`, and
//! Redis 7.2 up to 7.2.4 hands 100000000 to a command as `1e+8`.

mod attempt;
mod clearing;
mod common;
mod fenced;
mod holding;
mod looking;

use std::sync::LazyLock;

use self::attempt::ATTEMPT;
use self::attempt::ATTEMPT_FREE;
use self::clearing::EVICT;
use self::clearing::EVICT_WAKE;
use self::clearing::PURGE;
use self::common::DESCRIBE;
use self::common::SOONER;
use self::common::STATE;
use self::common::WAKE;
pub(crate) use self::fenced::SET_FENCED;
pub(crate) use self::fenced::fenced;
use self::holding::KEEP;
use self::holding::RELEASE;
use self::holding::RELEASE_FREE;
use self::looking::INSPECT;
use self::looking::PEEK;

/// One script, hashed once.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) hash: String,
    pub(crate) text: String,
}

/// The scripts of this version.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) attempt: Script,
    pub(crate) keep: Script,
    pub(crate) release: Script,
    pub(crate) peek: Script,
    pub(crate) inspect: Script,
    pub(crate) evict: Script,
    pub(crate) purge: Script,
}

pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    attempt: join(&[ATTEMPT_FREE, STATE, WAKE, DESCRIBE, SOONER, ATTEMPT]),
    keep: join(&[STATE, KEEP]),
    release: join(&[RELEASE_FREE, STATE, WAKE, RELEASE]),
    peek: join(&[STATE, SOONER, PEEK]),
    inspect: join(&[STATE, DESCRIBE, INSPECT]),
    evict: join(&[EVICT, STATE, WAKE, EVICT_WAKE]),
    purge: join(&[STATE, PURGE]),
});

fn join(parts: &[&str]) -> Script {
    let text = parts.concat();
    Script { hash: redis::Script::new(&text).get_hash().to_owned(), text }
}
