//! What each failure of the server or of the connection means to a caller.

use lock_core::Error;
use lock_core::ErrorKind;

/// What was under way when the failure came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// A connection was being made: nothing has been asked for yet.
    Connect,
    /// A statement was on its way: without an answer it may have been carried out.
    Statement,
}

/// Turns a failure of a statement of the user's own into an error of the framework: `Held` where rows were
/// locked by others for too long, `Unavailable` and retryable where the transaction has to be repeated.
pub fn statement_error(failure: sqlx::Error) -> Error {
    if code(&failure) == Some("55P03") {
        return Error::new(ErrorKind::Held, "others have locked the rows").with_source(failure);
    }
    classify(failure, During::Statement)
}

/// Turns a failure into an error of the framework.
pub(crate) fn classify(failure: sqlx::Error, during: During) -> Error {
    let (kind, passing, message) = match code(&failure).and_then(class) {
        Some(class) => class,
        None => silence(&failure),
    };
    // The server's own answer means that it has undone the statement.
    let answered = code(&failure).is_some_and(|code| !ends_session(code));
    let mut error = Error::new(kind, message);
    if !passing {
        error = error.permanent();
    }
    if during == During::Statement && !answered && kind == ErrorKind::Unavailable {
        error = error.ambiguous();
    }
    error.with_source(failure)
}

/// Tells whether nothing more can be expected of the connection. The server's own answers leave it intact.
pub(crate) fn is_fatal(failure: &sqlx::Error) -> bool {
    code(failure).is_none_or(ends_session)
}

fn code(failure: &sqlx::Error) -> Option<&str> {
    let database = failure.as_database_error()?;
    database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().map(|error| error.code())
}

fn ends_session(code: &str) -> bool {
    code.starts_with("57P") || code.starts_with("08") || matches!(code, "25P03" | "25P04")
}

type Class = (ErrorKind, bool, &'static str);

/// The classification table: code, kind, whether repeating may help, what to say.
fn class(code: &str) -> Option<Class> {
    use ErrorKind::Config;
    use ErrorKind::Corrupt;
    use ErrorKind::Unavailable;
    Some(match code {
        "55P03" => (Unavailable, true, "others kept the rows of the locks locked for too long"),
        "57014" => (Unavailable, true, "the statement was cancelled, or took too long"),
        "40001" | "40P01" => (Unavailable, true, "the transaction collided with another"),
        "25006" => (Unavailable, true, "the server is a replica, or takes no writes"),
        "53200" => (
            Unavailable,
            true,
            "the server has no memory left, perhaps for locks: raise max_locks_per_transaction",
        ),
        "53300" => (
            Unavailable,
            true,
            "the server takes no more connections, of this role perhaps: a client needs two, and a third while it \
             makes them",
        ),
        "57P01" | "57P02" => (Unavailable, true, "the server ended the session"),
        "57P03" => (Unavailable, true, "the server is starting or stopping"),
        "57P05" | "25P03" => {
            (Unavailable, true, "the server ended the session because it was silent for too long")
        }
        "25P04" => {
            (Unavailable, true, "the server ended the session because a statement took too long")
        }
        "26000" | "42P05" | "08P01" => (
            Config,
            false,
            "a pooler of transactions (PgBouncer) stands before the server: use a direct connection, \
             or pool_mode=session",
        ),
        "42501" => {
            (Config, false, "the role may not do this: see the least grants in the documentation")
        }
        "3D000" => (Config, false, "there is no such database"),
        "23502" | "23503" | "23505" | "23514" | "42804" => {
            (Corrupt, false, "the tables of the locks hold what is not ours")
        }
        _ => match code.get(..2)? {
            "28" => (Config, false, "the server refused user or password"),
            "3F" | "42" => {
                (Config, false, "the schema of the locks is not as we write it: see lockctl schema")
            }
            "22" => (Corrupt, false, "the tables of the locks hold what is not ours"),
            "53" | "57" | "58" | "08" => (Unavailable, true, "the server cannot answer now"),
            _ => (Unavailable, false, "the server refused the statement"),
        },
    })
}

/// There was no answer.
fn silence(failure: &sqlx::Error) -> Class {
    use ErrorKind::Unavailable;
    const UNENCRYPTED: &str =
        "no encrypted connection could be made: see sslmode and the certificates";
    match failure {
        sqlx::Error::Tls(_) => (ErrorKind::Config, false, UNENCRYPTED),
        // So a certificate that is not trusted comes.
        sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
            (ErrorKind::Config, false, UNENCRYPTED)
        }
        sqlx::Error::Configuration(_) => (ErrorKind::Config, false, "the driver refused a setting"),
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => {
            (ErrorKind::Corrupt, false, "the tables of the locks hold what is not ours")
        }
        sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
            (Unavailable, true, "nobody listens at the address")
        }
        _ => (Unavailable, true, "the connection broke, or the server did not answer in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_class() {
        use ErrorKind::Config;
        use ErrorKind::Corrupt;
        use ErrorKind::Unavailable;
        let table = [
            ("55P03", Unavailable, true),
            ("57014", Unavailable, true),
            ("40001", Unavailable, true),
            ("40P01", Unavailable, true),
            ("25006", Unavailable, true),
            ("53200", Unavailable, true),
            ("53300", Unavailable, true),
            ("57P01", Unavailable, true),
            ("57P03", Unavailable, true),
            ("57P05", Unavailable, true),
            ("25P04", Unavailable, true),
            ("08006", Unavailable, true),
            ("58030", Unavailable, true),
            ("26000", Config, false),
            ("42P05", Config, false),
            ("08P01", Config, false),
            ("42501", Config, false),
            ("42P01", Config, false),
            ("3F000", Config, false),
            ("3D000", Config, false),
            ("28P01", Config, false),
            ("23514", Corrupt, false),
            ("22P02", Corrupt, false),
            ("XX000", Unavailable, false),
        ];
        for (code, kind, passing) in table {
            let (found, passes, _) = class(code).unwrap();
            assert_eq!((found, passes), (kind, passing), "code {code}");
        }
    }

    #[test]
    fn a_reply_that_did_not_come_leaves_open_what_happened() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let error = classify(broken(), During::Statement);
        assert!(error.is_ambiguous() && error.is_retryable());
        assert!(!classify(broken(), During::Connect).is_ambiguous());
        assert!(is_fatal(&broken()));
    }
}
