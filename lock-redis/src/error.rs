//! What each failure of the server or of the connection means to a caller.

use lock_core::Error;
use lock_core::ErrorKind;
use redis::RedisError;
use redis::ServerErrorKind;

/// What was under way when the failure came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// A connection was being made: nothing has been asked for yet.
    Connect,
    /// A request was on its way: without an answer it may have been carried out.
    Request,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the driver says of a request.
    Driver(RedisError),
    /// What we say: there is no connection, or the server is not fit.
    Refused(Error),
}

impl Failure {
    pub(crate) fn into_error(self, during: During) -> Error {
        match self {
            Self::Driver(failure) => classify(failure, during),
            Self::Refused(error) => error,
        }
    }

    /// Tells whether the script has to be sent in full.
    pub(crate) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Driver(failure)
            if failure.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript))
    }
}

impl From<RedisError> for Failure {
    fn from(failure: RedisError) -> Self {
        Self::Driver(failure)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Tells whether nothing more can be expected of a connection after `failure`.
pub(crate) fn is_fatal(failure: &RedisError) -> bool {
    failure.is_timeout()
        || failure.is_connection_dropped()
        || failure.is_io_error()
        || failure.is_unrecoverable_error()
        || failure.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Turns a failure into an error of the framework.
pub(crate) fn classify(failure: RedisError, during: During) -> Error {
    let text = failure.to_string();
    let error = match answer(&failure, &text) {
        Some(error) => error,
        None => silence(&failure, during),
    };
    // Scripts answer with an error of their own: there is no more to know.
    if text.contains("LOCK") { error } else { error.with_source(failure) }
}

/// The server has said what is wrong: it did nothing.
fn answer(failure: &RedisError, text: &str) -> Option<Error> {
    let said = failure.detail().unwrap_or_default();
    if failure.code() == Some("LOCKMODE") {
        return Some(clash(said));
    }
    // Raised inside a function, it stands within a longer text.
    if let Some((_, said)) = text.split_once("LOCKCORRUPT") {
        let said = said.trim_start_matches(['"', ':', ' ']);
        return Some(Error::new(ErrorKind::Corrupt, said.split(" script:").next()?.trim()));
    }
    let code = failure.code()?;
    if let Some(message) = misuse(code, said) {
        return Some(Error::new(ErrorKind::Config, message));
    }
    let (kind, passing, message) = class(code)?;
    let error = Error::new(kind, format!("{message} ({code} {said})"));
    Some(if passing { error } else { error.permanent() })
}

/// The classification table: code, kind, whether repeating may help, what to say.
fn class(code: &str) -> Option<(ErrorKind, bool, &'static str)> {
    use ErrorKind::Config;
    use ErrorKind::Corrupt;
    use ErrorKind::Unavailable;
    Some(match code {
        "WRONGTYPE" => (Corrupt, false, "something that is not a lock is stored under its name"),
        "LOADING" => (Unavailable, true, "the server is still loading its data"),
        "BUSY" => (Unavailable, true, "the server is busy with a script"),
        "READONLY" => (Unavailable, true, "the server is a replica now"),
        "MASTERDOWN" => (Unavailable, true, "the replica has no primary"),
        "CLUSTERDOWN" => (Unavailable, true, "the cluster does not serve the slot"),
        "TRYAGAIN" | "MOVED" | "ASK" => (Unavailable, true, "the slot is being moved"),
        "NOREPLICAS" => (Unavailable, true, "too few replicas are connected"),
        "MISCONF" => (Unavailable, true, "the server cannot save its data and refuses writes"),
        "OOM" => (Unavailable, true, "the server has no memory left: raise maxmemory"),
        "UNBLOCKED" => (Unavailable, true, "the server became a replica"),
        "NOPERM" => {
            (Config, false, "the user may not do this: see the least rights in the documentation")
        }
        "CROSSSLOT" => (Unavailable, false, "a fault in this library: keys of several slots"),
        "ERR" => (Unavailable, false, "the server refused the command"),
        _ => return None,
    })
}

/// What a server says whom the URL takes for another than it is. Its own words would add nothing.
fn misuse(code: &str, said: &str) -> Option<&'static str> {
    Some(match code {
        "NOAUTH" => "the server wants a password, as in redis://:PASSWORD@HOST",
        "WRONGPASS" => "the server refused user or password",
        _ if said.contains("DB index") => "the server has no database of that number",
        _ if said.contains("SELECT is not allowed") => {
            "a cluster has only database 0: write redis+cluster:// without a path"
        }
        _ if said.contains("cluster support disabled") => {
            "the server is no cluster: write redis://"
        }
        _ if said.contains("unknown command 'SENTINEL'") => {
            "the server is no sentinel: write redis://"
        }
        _ => return None,
    })
}

/// There was no answer.
fn silence(failure: &RedisError, during: During) -> Error {
    let refused = failure.is_connection_refusal();
    let authentication = failure.kind() == redis::ErrorKind::AuthenticationFailed;
    let message = match () {
        () if authentication => "the server refused user or password",
        () if refused => "nobody listens at the address",
        () if failure.is_timeout() => "the server did not answer in time",
        () if failure.is_connection_dropped() || failure.is_io_error() => "the connection broke",
        () => "the driver failed",
    };
    let kind = if authentication { ErrorKind::Config } else { ErrorKind::Unavailable };
    let error = Error::new(kind, message);
    if during == During::Connect || refused || authentication { error } else { error.ambiguous() }
}

/// The same refusal as on every other backend.
fn clash(stored: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            "the store has this lock as {stored}, it cannot be in another mode at the same time"
        ),
    )
}
