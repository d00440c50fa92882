//! What each failure of SQLite means to a caller.

use lock_core::Error;
use lock_core::ErrorKind;
use rusqlite::ErrorCode;

/// Whether a transaction was being committed when the failure came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    /// No: SQLite has undone the statement.
    Step,
    /// Yes: the commit record may have reached the file.
    Commit,
}

/// Turns a failure of a statement of the user's own into an error of the framework: `Held` where another
/// transaction was writing for too long, and the whole transaction has to be repeated.
pub fn statement_error(failure: rusqlite::Error) -> Error {
    if !leaves_open(&failure) {
        return Error::new(ErrorKind::Held, "another transaction writes").with_source(failure);
    }
    classify(failure, During::Commit)
}

/// How one code of SQLite is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    kind: ErrorKind,
    retryable: bool,
    /// Whether the failure leaves open what is in the file, even outside a commit.
    ambiguous: bool,
    message: &'static str,
}

/// Turns a failure of SQLite into an error of the framework.
pub(crate) fn classify(failure: rusqlite::Error, during: During) -> Error {
    let class = class_of(&failure);
    let mut error = Error::new(class.kind, format!("{}: {failure}", class.message));
    if !class.retryable {
        error = error.permanent();
    }
    if class.ambiguous || (during == During::Commit && leaves_open(&failure)) {
        error = error.ambiguous();
    }
    error.with_source(failure)
}

/// A commit that was refused for want of a lock has done nothing; any other may have.
fn leaves_open(failure: &rusqlite::Error) -> bool {
    !matches!(
        failure.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn class_of(failure: &rusqlite::Error) -> Class {
    use rusqlite::Error as Failure;
    match failure {
        Failure::FromSqlConversionFailure(..)
        | Failure::IntegralValueOutOfRange(..)
        | Failure::InvalidColumnType(..)
        | Failure::Utf8Error(..) => fixed(ErrorKind::Corrupt, "a row is not as we write it"),
        _ => failure
            .sqlite_error_code()
            .map_or_else(|| fixed(ErrorKind::Unavailable, "the driver failed"), class_of_code),
    }
}

/// The classification table.
fn class_of_code(code: ErrorCode) -> Class {
    use ErrorKind::Config;
    use ErrorKind::Corrupt;
    use ErrorKind::Unavailable;
    match code {
        ErrorCode::DatabaseBusy => passing("another process kept the database busy for too long"),
        ErrorCode::DatabaseLocked => passing("another connection kept a table locked"),
        ErrorCode::OutOfMemory => passing("memory ran out"),
        ErrorCode::FileLockingProtocolFailed => passing("too many processes opened it at once"),
        ErrorCode::SchemaChanged => passing("the schema changed meanwhile"),
        ErrorCode::OperationInterrupted => passing("the statement was interrupted"),
        ErrorCode::OperationAborted => passing("the statement was aborted"),
        ErrorCode::SystemIoFailure => {
            Class { ambiguous: true, ..passing("reading or writing the database failed") }
        }
        ErrorCode::DiskFull => fixed(Unavailable, "the disk is full: free some space"),
        ErrorCode::ReadOnly => fixed(Config, "the database cannot be written"),
        ErrorCode::CannotOpen => fixed(Config, "the database or its -wal cannot be opened"),
        ErrorCode::PermissionDenied => fixed(Config, "access to the database was denied"),
        ErrorCode::AuthorizationForStatementDenied => fixed(Config, "the statement was denied"),
        ErrorCode::NotADatabase => fixed(Config, "the file is not a SQLite database"),
        ErrorCode::NoLargeFileSupport => fixed(Config, "the host lacks large files"),
        ErrorCode::DatabaseCorrupt => fixed(Corrupt, "the database is damaged"),
        ErrorCode::ConstraintViolation => fixed(Corrupt, "a constraint or trigger not of ours"),
        ErrorCode::TypeMismatch => fixed(Corrupt, "a column has another type than ours"),
        ErrorCode::Unknown => fixed(Corrupt, "the table is gone or has changed its shape"),
        ErrorCode::TooBig => fixed(ErrorKind::InvalidInput, "a value is too long for SQLite"),
        _ => fixed(Unavailable, "a fault in this library or in SQLite"),
    }
}

const fn passing(message: &'static str) -> Class {
    Class { kind: ErrorKind::Unavailable, retryable: true, ambiguous: false, message }
}

const fn fixed(kind: ErrorKind, message: &'static str) -> Class {
    Class { kind, retryable: false, ambiguous: false, message }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    const RETRYABLE: bool = true;
    const PERMANENT: bool = false;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("why".into()))
    }

    #[test]
    fn each_code_has_its_class() {
        use ErrorKind::Config;
        use ErrorKind::Corrupt;
        use ErrorKind::InvalidInput;
        use ErrorKind::Unavailable;
        let table = [
            (ffi::SQLITE_BUSY, Unavailable, RETRYABLE),
            (ffi::SQLITE_BUSY_SNAPSHOT, Unavailable, RETRYABLE),
            (ffi::SQLITE_BUSY_RECOVERY, Unavailable, RETRYABLE),
            (ffi::SQLITE_LOCKED, Unavailable, RETRYABLE),
            (ffi::SQLITE_NOMEM, Unavailable, RETRYABLE),
            (ffi::SQLITE_PROTOCOL, Unavailable, RETRYABLE),
            (ffi::SQLITE_SCHEMA, Unavailable, RETRYABLE),
            (ffi::SQLITE_INTERRUPT, Unavailable, RETRYABLE),
            (ffi::SQLITE_ABORT, Unavailable, RETRYABLE),
            (ffi::SQLITE_IOERR, Unavailable, RETRYABLE),
            (ffi::SQLITE_FULL, Unavailable, PERMANENT),
            (ffi::SQLITE_READONLY, Config, PERMANENT),
            (ffi::SQLITE_CANTOPEN, Config, PERMANENT),
            (ffi::SQLITE_PERM, Config, PERMANENT),
            (ffi::SQLITE_AUTH, Config, PERMANENT),
            (ffi::SQLITE_NOTADB, Config, PERMANENT),
            (ffi::SQLITE_NOLFS, Config, PERMANENT),
            (ffi::SQLITE_CORRUPT, Corrupt, PERMANENT),
            (ffi::SQLITE_CONSTRAINT, Corrupt, PERMANENT),
            (ffi::SQLITE_MISMATCH, Corrupt, PERMANENT),
            (ffi::SQLITE_ERROR, Corrupt, PERMANENT),
            (ffi::SQLITE_TOOBIG, InvalidInput, PERMANENT),
            (ffi::SQLITE_MISUSE, Unavailable, PERMANENT),
            (ffi::SQLITE_INTERNAL, Unavailable, PERMANENT),
        ];
        for (code, kind, retryable) in table {
            let error = classify(failure(code), During::Step);
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "code {code}");
            assert_eq!(error.is_ambiguous(), code == ffi::SQLITE_IOERR, "code {code}");
        }
    }

    #[test]
    fn a_failed_commit_may_have_been_applied() {
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_FULL, ffi::SQLITE_CORRUPT] {
            assert!(classify(failure(code), During::Commit).is_ambiguous(), "code {code}");
        }
        assert!(!classify(failure(ffi::SQLITE_BUSY), During::Commit).is_ambiguous());
    }

    #[test]
    fn a_value_of_a_foreign_type_is_corrupt() {
        let error = rusqlite::Error::IntegralValueOutOfRange(1, -1);
        assert_eq!(classify(error, During::Step).kind(), ErrorKind::Corrupt);
    }
}
