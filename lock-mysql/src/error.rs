//! What each failure of the server or of the connection means to a caller.

use lock_core::Error;
use lock_core::ErrorKind;
use sqlx::mysql::MySqlDatabaseError;

/// What was under way when the failure came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// A connection was being made, or a look was under way: there was nothing to apply.
    Look,
    /// A statement that writes: without an answer it may have been carried out.
    Write,
}

/// Why a step has no outcome.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) remedy: Remedy,
}

/// What can be done about a failure, apart from reporting it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing; the connection is fine.
    None,
    /// The server has undone the step in favour of another one: do it once more.
    Repeat,
    /// Another transaction kept a row for too long: it may be over now.
    Wait,
    /// The server takes no more connections: those that there are have to do.
    Share,
    /// Nothing more can be expected of this connection.
    Close,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, remedy: Remedy::None }
    }
}

/// Turns a failure of a statement of the user's own into an error of the framework: `Held` where rows were
/// locked by others for too long, `Unavailable` and retryable where the transaction has to be repeated.
pub fn statement_error(failure: sqlx::Error) -> Error {
    // MariaDB says the same of a read that was not to wait as of one that waited for too long.
    if matches!(number(&failure), Some(1205 | 3572)) {
        return Error::new(ErrorKind::Held, "others have locked the rows").with_source(failure);
    }
    classify(failure, During::Write).error
}

fn number(failure: &sqlx::Error) -> Option<u16> {
    let answer = failure.as_database_error()?;
    answer.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// Turns a failure of the driver into one of ours.
pub(crate) fn classify(failure: sqlx::Error, during: During) -> Failure {
    match &failure {
        sqlx::Error::Database(_) => answered(number(&failure).unwrap_or(0), during, failure),
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::TypeNotFound { .. } => {
            let why = "the table has a value that this library did not write";
            Error::new(ErrorKind::Corrupt, why).with_source(failure).into()
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => unencrypted(failure),
        // So a certificate that is not trusted comes.
        sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
            unencrypted(failure)
        }
        _ => silent(during, failure),
    }
}

fn unencrypted(failure: sqlx::Error) -> Failure {
    let why = format!("no encrypted connection could be made: {failure}");
    let error = Error::new(ErrorKind::Config, why).with_source(failure);
    Failure { error, remedy: Remedy::Close }
}

/// There was no answer, or none that makes sense.
fn silent(during: During, failure: sqlx::Error) -> Failure {
    let refused = matches!(&failure, sqlx::Error::Io(cause)
        if cause.kind() == std::io::ErrorKind::ConnectionRefused);
    let why = if refused { "nobody listens at the address" } else { "the connection broke" };
    let error = Error::new(ErrorKind::Unavailable, format!("{why}: {failure}"));
    let error = if during == During::Write { error.ambiguous() } else { error };
    Failure { error: error.with_source(failure), remedy: Remedy::Close }
}

/// The server has said what is wrong.
fn answered(number: u16, during: During, failure: sqlx::Error) -> Failure {
    let Class { kind, retryable, applied, remedy, message } = class(number);
    let mut error = Error::new(kind, format!("{message}: {failure}"));
    if !retryable {
        error = error.permanent();
    }
    if applied && during == During::Write {
        error = error.ambiguous();
    }
    Failure { error: error.with_source(failure), remedy }
}

/// How one number of the server is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    kind: ErrorKind,
    retryable: bool,
    /// Whether the failure leaves open what has been applied.
    applied: bool,
    remedy: Remedy,
    message: &'static str,
}

/// The classification table. Numbers mean the same on both servers unless a comment says otherwise.
fn class(number: u16) -> Class {
    use ErrorKind::Config;
    use ErrorKind::Corrupt;
    match number {
        1213 | 1020 | 1615 => undone("the statement lost against another one at the same time"),
        1205 => Class {
            remedy: Remedy::Wait,
            ..passing("another transaction kept the row locked: look for one that does not end")
        },
        1969 | 3024 => passing("the server's limit on the time of a statement ended it"),
        1040 | 1203 | 1226 => Class {
            remedy: Remedy::Share,
            ..passing("the server takes no more connections for now, of this user perhaps")
        },
        3032 => broken("the server has been taken offline"),
        1153 => Class {
            remedy: Remedy::Close,
            ..fixed(
                Config,
                "the server takes no messages as long as this one: raise max_allowed_packet",
            )
        },
        1461 => passing("the server keeps no more prepared statements: raise its limit"),
        1021 | 1030 | 1037 | 1038 | 1041 | 1114 | 1206 => passing("the server lacks space"),
        // MariaDB says 1927 of a killed connection, MySQL 4031 of one that was idle for too long.
        1053 | 1317 | 1927 | 4031 | 1152 | 1158..=1161 => unclear("the server ended the work"),
        1180 | 3101 | 1792 => unclear("the transaction could not be committed"),
        1290 | 1836 => broken("this server cannot be written now: name the primary"),
        1047 | 3100 => broken("the cluster is not ready for writes"),
        1044 | 1045 | 1130 | 1129 | 1251 | 1698 => fixed(Config, "the server refuses the user"),
        1142 | 1143 | 1227 | 1370 | 1211 => {
            fixed(Config, "the user lacks a right: see the grants in the documentation")
        }
        1184 => fixed(Config, "the server ends connections of this user: look for why in its log"),
        1049 | 1046 => fixed(Config, "there is no such database"),
        1115 | 1273 => fixed(Config, "the server is too old for a collation that pads no keys"),
        1146 | 1054 | 1136 | 1364 | 1062 | 1442 | 1452 | 1644 | 3819 | 4025 => {
            fixed(Corrupt, "the table is gone, or has changed its shape")
        }
        1264 | 1265 | 1292 | 1366 | 1406 | 1690 | 1411 | 1441 => {
            fixed(Corrupt, "the table has a value that this library did not write")
        }
        1243 => broken("the server has forgotten a prepared statement"),
        // Whatever is wrong with it, another connection may not have it.
        _ => Class {
            remedy: Remedy::Close,
            ..fixed(ErrorKind::Unavailable, "the server refused the statement")
        },
    }
}

const fn passing(message: &'static str) -> Class {
    let kind = ErrorKind::Unavailable;
    Class { kind, retryable: true, applied: false, remedy: Remedy::None, message }
}

const fn undone(message: &'static str) -> Class {
    Class { remedy: Remedy::Repeat, ..passing(message) }
}

/// Another connection may find another server.
const fn broken(message: &'static str) -> Class {
    Class { remedy: Remedy::Close, ..passing(message) }
}

const fn unclear(message: &'static str) -> Class {
    Class { applied: true, ..broken(message) }
}

const fn fixed(kind: ErrorKind, message: &'static str) -> Class {
    Class { kind, retryable: false, applied: false, remedy: Remedy::None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_class() {
        use ErrorKind::Config;
        use ErrorKind::Corrupt;
        use ErrorKind::Unavailable;
        let rows = [
            (1213, Unavailable, true, false, Remedy::Repeat),
            (1020, Unavailable, true, false, Remedy::Repeat),
            (1205, Unavailable, true, false, Remedy::Wait),
            (1040, Unavailable, true, false, Remedy::Share),
            (3032, Unavailable, true, false, Remedy::Close),
            (1053, Unavailable, true, true, Remedy::Close),
            (1317, Unavailable, true, true, Remedy::Close),
            (1927, Unavailable, true, true, Remedy::Close),
            (1180, Unavailable, true, true, Remedy::Close),
            (1290, Unavailable, true, false, Remedy::Close),
            (1836, Unavailable, true, false, Remedy::Close),
            (1045, Config, false, false, Remedy::None),
            (1142, Config, false, false, Remedy::None),
            (1049, Config, false, false, Remedy::None),
            (1146, Corrupt, false, false, Remedy::None),
            (1264, Corrupt, false, false, Remedy::None),
            (1064, Unavailable, false, false, Remedy::Close),
        ];
        for (number, kind, retryable, applied, remedy) in rows {
            let found = class(number);
            let found = (found.kind, found.retryable, found.applied, found.remedy);
            assert_eq!(found, (kind, retryable, applied, remedy), "number {number}");
        }
    }

    #[test]
    fn silence_is_ambiguous_only_when_something_was_written() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(classify(broken(), During::Write).error.is_ambiguous());
        let look = classify(broken(), During::Look);
        assert!(look.error.is_retryable() && !look.error.is_ambiguous());
        assert_eq!(look.remedy, Remedy::Close);
    }
}
