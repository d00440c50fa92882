//! What each failure of the servers, the connection or the session means.

use lock_core::Error;
use lock_core::ErrorKind;
use zookeeper_client::Error as ZkError;

/// What can be known after a request has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A server has refused it: nothing was changed.
    Refused,
    /// There was no answer: it may have been carried out.
    Unknown,
    /// The session is over, or its driver is; the request may have been carried out before.
    SessionOver,
}

/// Judges a failed request.
pub(crate) fn verdict(failure: &ZkError) -> Verdict {
    match failure {
        ZkError::NoNode
        | ZkError::NoAuth
        | ZkError::BadVersion
        | ZkError::NoChildrenForEphemerals
        | ZkError::NodeExists
        | ZkError::NotEmpty
        | ZkError::InvalidAcl
        | ZkError::NotReadOnly
        | ZkError::QuotaExceeded
        | ZkError::Throttled
        | ZkError::MarshallingError
        | ZkError::Unimplemented
        | ZkError::BadArguments(_)
        | ZkError::NoHosts => Verdict::Refused,
        ZkError::SessionExpired
        | ZkError::AuthFailed
        | ZkError::ClientClosed
        // The driver's task has ended without a word.
        | ZkError::UnexpectedError(_) => Verdict::SessionOver,
        _ => Verdict::Unknown,
    }
}

/// Turns a failure into an error of the framework.
pub(crate) fn classify(failure: ZkError) -> Error {
    let (kind, passing, message) = class(&failure);
    let error = Error::new(kind, message);
    let error = if verdict(&failure) == Verdict::Refused { error } else { error.ambiguous() };
    let error = if passing { error } else { error.permanent() };
    error.with_source(failure)
}

/// The classification table: kind, whether repeating may help, what to say.
fn class(failure: &ZkError) -> (ErrorKind, bool, &'static str) {
    use ErrorKind::Config;
    use ErrorKind::Corrupt;
    use ErrorKind::Unavailable;
    match failure {
        ZkError::NoAuth => {
            (Config, false, "the user may not do this: see the rights in the documentation")
        }
        ZkError::AuthFailed => (Config, false, "the server refused user or password"),
        ZkError::InvalidAcl => {
            (Config, false, "the server knows no such user: name one in the URL, or set acl=open")
        }
        ZkError::Unimplemented => (Config, false, "the server is older than ZooKeeper 3.6"),
        ZkError::NoChildrenForEphemerals => {
            (Corrupt, false, "a contender for a lock is stored where the key's node should be")
        }
        ZkError::UnmarshalError { .. } => (Corrupt, false, "the server's answer cannot be read"),
        ZkError::BadArguments(_) | ZkError::MarshallingError => {
            (Unavailable, false, "the server refused the request")
        }
        ZkError::QuotaExceeded => (Unavailable, false, "the quota of the path is exceeded"),
        ZkError::Throttled => (Unavailable, true, "the server has too much to do"),
        ZkError::NotReadOnly => (Unavailable, true, "the server has no quorum"),
        ZkError::NoHosts | ZkError::Timeout => (Unavailable, true, "no server can be reached"),
        ZkError::SessionExpired | ZkError::ClientClosed | ZkError::UnexpectedError(_) => {
            (Unavailable, true, "the session ended during the call")
        }
        ZkError::NoNode => (Unavailable, true, "the key's node is gone"),
        _ => (Unavailable, true, "the connection broke"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_class() {
        use ErrorKind::Config;
        use ErrorKind::Corrupt;
        use ErrorKind::Unavailable;
        let broken = || ZkError::UnexpectedErrorCode(-4);
        // failure, kind, retryable, ambiguous, verdict
        let rows = [
            (ZkError::ConnectionLoss, Unavailable, true, true, Verdict::Unknown),
            (ZkError::Timeout, Unavailable, true, true, Verdict::Unknown),
            (ZkError::SessionMoved, Unavailable, true, true, Verdict::Unknown),
            (broken(), Unavailable, true, true, Verdict::Unknown),
            (ZkError::SessionExpired, Unavailable, true, true, Verdict::SessionOver),
            (ZkError::ClientClosed, Unavailable, true, true, Verdict::SessionOver),
            (ZkError::UnexpectedError("".into()), Unavailable, true, true, Verdict::SessionOver),
            (ZkError::AuthFailed, Config, false, true, Verdict::SessionOver),
            (ZkError::NoAuth, Config, false, false, Verdict::Refused),
            (ZkError::InvalidAcl, Config, false, false, Verdict::Refused),
            (ZkError::Unimplemented, Config, false, false, Verdict::Refused),
            (ZkError::NoChildrenForEphemerals, Corrupt, false, false, Verdict::Refused),
            (ZkError::BadArguments(&"x"), Unavailable, false, false, Verdict::Refused),
            (ZkError::QuotaExceeded, Unavailable, false, false, Verdict::Refused),
            (ZkError::Throttled, Unavailable, true, false, Verdict::Refused),
            (ZkError::NotReadOnly, Unavailable, true, false, Verdict::Refused),
            (ZkError::NoHosts, Unavailable, true, false, Verdict::Refused),
            (ZkError::NoNode, Unavailable, true, false, Verdict::Refused),
        ];
        for (failure, kind, retryable, ambiguous, judged) in rows {
            assert_eq!(verdict(&failure), judged, "{failure:?}");
            let error = classify(failure.clone());
            let found = (error.kind(), error.is_retryable(), error.is_ambiguous());
            assert_eq!(found, (kind, retryable, ambiguous), "{failure:?}");
        }
    }
}
