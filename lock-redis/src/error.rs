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
        || said_by(failure).is_some_and(|(code, _)| code == "READONLY")
}

/// What the server says: a code, and words.
///
/// Before 7.0 it puts what goes wrong within a script behind words of its own, as in `ERR Error running script
/// (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't …`.
fn said_by(failure: &RedisError) -> Option<(&str, &str)> {
    let (code, words) = (failure.code()?, failure.detail().unwrap_or_default());
    let raised = words
        .starts_with("Error running script")
        .then(|| words.rsplit_once("user_script:")?.1.split_once(": ")?.1.split_once(' '))
        .flatten()
        .map(|(code, words)| (code.trim_start_matches('-'), words))
        .filter(|(code, _)| code.bytes().all(|letter| letter.is_ascii_uppercase()));
    Some(raised.unwrap_or((code, words)))
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
    let (code, said) = said_by(failure)?;
    if code == "LOCKMODE" {
        return Some(clash(said));
    }
    // Raised inside a function, it stands within a longer text.
    if let Some((_, said)) = text.split_once("LOCKCORRUPT") {
        let said = said.trim_start_matches(['"', ':', ' ']);
        return Some(Error::new(ErrorKind::Corrupt, said.split(" script:").next()?.trim()));
    }
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
        _ if said.contains("unknown command") && said.contains("SENTINEL") => {
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

/// The same refusal as on every other backend. A script says what is stored, and what was wanted.
fn clash(said: &str) -> Error {
    let (stored, wanted) = said.split_once(' ').unwrap_or((said, "another"));
    let message =
        format!("the store has this lock as {stored}, it can't be {wanted} at the same time");
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use lock_core::Claim;
    use lock_core::LockKey;
    use lock_core::Mode;
    use lock_core::Owner;

    use super::*;

    /// What becomes of an error that a server writes on the wire.
    fn said(line: &str) -> Error {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        classify(reply.extract_error().unwrap_err(), During::Request)
    }

    /// What Redis 6.2 puts before what has gone wrong within a script.
    const RAISED: &str = "ERR Error running script (call to f_2bab): @user_script:25:";

    fn broken(kind: io::ErrorKind) -> RedisError {
        RedisError::from(io::Error::from(kind))
    }

    #[test]
    fn each_code_has_its_class_and_nothing_was_done() {
        use ErrorKind::Config;
        use ErrorKind::Corrupt;
        use ErrorKind::InvalidInput;
        use ErrorKind::Unavailable;
        let rows = [
            ("WRONGTYPE Operation against a key holding the wrong kind", Corrupt, false),
            ("LOADING Redis is loading the dataset in memory", Unavailable, true),
            ("BUSY Redis is busy running a script", Unavailable, true),
            ("READONLY You can't write against a read only replica.", Unavailable, true),
            ("MASTERDOWN Link with MASTER is down", Unavailable, true),
            ("CLUSTERDOWN Hash slot not served", Unavailable, true),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable, true),
            ("MOVED 3999 127.0.0.1:6381", Unavailable, true),
            ("ASK 3999 127.0.0.1:6381", Unavailable, true),
            ("NOREPLICAS Not enough good replicas to write.", Unavailable, true),
            ("MISCONF Redis is configured to save RDB snapshots", Unavailable, true),
            ("OOM command not allowed when used memory > 'maxmemory'.", Unavailable, true),
            ("UNBLOCKED force unblock from blocking operation", Unavailable, true),
            ("NOPERM this user has no permissions to run the 'evalsha' command", Config, false),
            ("CROSSSLOT Keys in request don't hash to the same slot", Unavailable, false),
            ("ERR unknown command 'EVALSHA'", Unavailable, false),
            ("NOAUTH Authentication required.", Config, false),
            ("WRONGPASS invalid username-password pair", Config, false),
            ("ERR DB index is out of range", Config, false),
            ("ERR SELECT is not allowed in cluster mode", Config, false),
            ("ERR This instance has cluster support disabled", Config, false),
            ("ERR unknown command 'SENTINEL', with args beginning with: ", Config, false),
            ("LOCKMODE shared exclusive", InvalidInput, false),
            ("LOCKCORRUPT a place in line reads x", Corrupt, false),
            ("ERR user_script:1: \"LOCKCORRUPT a place reads x\" script: 1, on x", Corrupt, false),
        ];
        for (line, kind, retryable) in rows {
            let error = said(line);
            let found = (error.kind(), error.is_retryable(), error.is_ambiguous());
            assert_eq!(found, (kind, retryable, false), "{line}: {error}");
        }
    }

    #[test]
    fn a_code_that_nobody_knows_may_have_come_after_the_deed() {
        let error = said("FUTURE words of a later version");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable() && error.is_ambiguous(), "{error}");
    }

    #[test]
    fn silence_is_ambiguous_once_something_was_asked_for() {
        use io::ErrorKind::BrokenPipe;
        use io::ErrorKind::ConnectionRefused;
        use io::ErrorKind::ConnectionReset;
        use io::ErrorKind::TimedOut;
        for (kind, ambiguous) in [
            (TimedOut, true),
            (ConnectionReset, true),
            (BrokenPipe, true),
            (ConnectionRefused, false),
        ] {
            for (during, asked) in [(During::Request, true), (During::Connect, false)] {
                let error = classify(broken(kind), during);
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{kind}");
                assert!(error.is_retryable(), "{kind}");
                assert_eq!(error.is_ambiguous(), ambiguous && asked, "{kind} {during:?}");
            }
        }
    }

    #[test]
    fn what_has_gone_wrong_within_a_script_reads_the_same_before_7() {
        let rows = [
            ("WRONGTYPE Operation against a key", ErrorKind::Corrupt, false),
            ("@user_script: 1: -OOM command not allowed", ErrorKind::Unavailable, true),
            ("@user_script: 1: -NOREPLICAS Not enough good", ErrorKind::Unavailable, true),
            ("user_script:1: LOCKCORRUPT a place reads x", ErrorKind::Corrupt, false),
            ("attempt to call a nil value", ErrorKind::Unavailable, false),
        ];
        for (words, kind, retryable) in rows {
            let error = said(&format!("{RAISED} {words}"));
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{words}: {error}");
        }
    }

    #[test]
    fn a_connection_is_given_up_when_nothing_more_comes_of_it() {
        let read_only = redis::parse_redis_value(b"-READONLY a replica\r\n").unwrap();
        assert!(is_fatal(&read_only.extract_error().unwrap_err()));
        assert!(is_fatal(&broken(io::ErrorKind::TimedOut)));
        assert!(is_fatal(&broken(io::ErrorKind::ConnectionReset)));
        let line = format!("-{RAISED} @user_script: 1: -READONLY You can't write\r\n");
        let read_only = redis::parse_redis_value(line.as_bytes()).unwrap();
        assert!(is_fatal(&read_only.extract_error().unwrap_err()));
        let busy = redis::parse_redis_value(b"-BUSY a script\r\n").unwrap();
        assert!(!is_fatal(&busy.extract_error().unwrap_err()));
    }

    #[test]
    fn a_clash_of_modes_reads_as_on_every_other_backend() {
        let (key, owner) = (LockKey::new("a").unwrap(), Owner::new("me").unwrap());
        let mut claim = Claim::new(key, owner, Duration::from_secs(1));
        claim.mode = Mode::Exclusive;
        let elsewhere = claim.check_beside(claim.token, Mode::Shared).unwrap_err();
        assert_eq!(said("LOCKMODE shared exclusive").message(), elsewhere.message());
    }
}
