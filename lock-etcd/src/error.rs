//! What each failure of the server or of the connection means to a caller.

use std::error::Error as StdError;
use std::io;

use lock_core::Error;
use lock_core::ErrorKind;

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) what: What,
    error: Error,
}

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The server has said no, and did nothing.
    Refused,
    /// This server did nothing; another might.
    Elsewhere,
    /// The lease has ended, and nothing was done.
    NoLease,
    /// There is no answer: it may have been done.
    Silence,
}

impl Failure {
    /// An answer that makes no sense.
    pub(crate) fn corrupt(message: &str) -> Self {
        Error::new(ErrorKind::Corrupt, message).into()
    }

    pub(crate) fn nonsense() -> Self {
        Self::corrupt("the server answered something else than was asked")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let what = if error.is_ambiguous() { What::Silence } else { What::Refused };
        Self { what, error }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        let (what, kind, message) = match &error {
            E::GRpcStatus(status) if is_untrusted(status) => {
                (What::Elsewhere, ErrorKind::Config, UNTRUSTED)
            }
            E::GRpcStatus(status) if is_unknown(status) => {
                (What::Elsewhere, ErrorKind::Unavailable, UNKNOWN)
            }
            E::GRpcStatus(status) if is_unsent(status) => NOBODY,
            E::GRpcStatus(status) => sort(i32::from(status.code()), status.message()),
            E::TransportError(_) | E::IoError(_) | E::EndpointError(_) => NOBODY,
            E::LeaseKeepAliveError(_) => (What::NoLease, ErrorKind::Unavailable, ENDED),
            E::InvalidArgs(_) | E::InvalidUri(_) | E::InvalidMetadataValue(_) => {
                (What::Refused, ErrorKind::Config, "the driver refused the address or the login")
            }
            _ => (What::Silence, ErrorKind::Unavailable, "the connection broke"),
        };
        let failure = Error::new(kind, message).with_source(error);
        let error = if what == What::Silence { failure.ambiguous() } else { failure };
        Self { what, error }
    }
}

const UNTRUSTED: &str = "the server's certificate is not trusted: name its authority with tls_ca, or its name with tls_name";
const UNKNOWN: &str = "nobody knows a host of that name: check the URL's hosts";
const NOBODY: (What, ErrorKind, &str) =
    (What::Elsewhere, ErrorKind::Unavailable, "nobody answers at the address");
const ENDED: &str = "the lease has ended";

/// Sorts what a server says, by the number of gRPC and the text of etcd.
fn sort(code: i32, text: &str) -> (What, ErrorKind, &'static str) {
    use ErrorKind::Config;
    use ErrorKind::Unavailable;
    use What::Elsewhere;
    use What::NoLease;
    use What::Refused;
    let says = |words: &str| text.contains(words);
    match code {
        3 if says("authentication failed") => {
            (Refused, Config, "the server refused user or password")
        }
        3 if says("user name is empty") => (Refused, Config, "the server wants a user"),
        3 if says("too many operations") => (
            Refused,
            Config,
            "the server takes too few operations at once: set --max-txn-ops to 128",
        ),
        3 => (Refused, Config, "the server refused the request"),
        5 if says("lease not found") => (NoLease, Unavailable, ENDED),
        5 => (Refused, Unavailable, "the server knows no such thing"),
        7 => {
            (Refused, Config, "the user may not do this: see the least rights in the documentation")
        }
        8 if says("space exceeded") => {
            (Refused, Unavailable, "the server's database is full: compact it and clear its alarm")
        }
        8 => (Refused, Unavailable, "the server has too much to do"),
        9 if says("authentication is not enabled") => {
            (Refused, Config, "the server knows no users: leave user and password out")
        }
        9 => (Refused, Unavailable, "the server cannot do this now"),
        11 => (Refused, Unavailable, "the history was compacted while it was read"),
        12 => (Refused, Config, "the server lacks this: etcd 3.4 or later is needed"),
        14 if says("no leader") => (Elsewhere, Unavailable, "the server knows no leader"),
        16 => (Refused, Unavailable, "the login has ended"),
        _ => (What::Silence, Unavailable, "the server did not answer"),
    }
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| StdError::source(*error))
}

/// Whether there was not even a connection.
fn is_unsent(error: &(dyn StdError + 'static)) -> bool {
    let refused = |error: &io::Error| {
        use io::ErrorKind as K;
        matches!(error.kind(), K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable)
    };
    causes(error).any(|cause| cause.downcast_ref().is_some_and(refused))
}

/// Whether a host's name leads to no address.
fn is_unknown(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.to_string().starts_with("dns error"))
}

fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.to_string().contains("invalid peer certificate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_sorted() {
        let rows = [
            (
                3,
                "etcdserver: authentication failed, invalid user ID or password",
                What::Refused,
                ErrorKind::Config,
            ),
            (3, "etcdserver: user name is empty", What::Refused, ErrorKind::Config),
            (3, "etcdserver: too many operations in txn request", What::Refused, ErrorKind::Config),
            (5, "etcdserver: requested lease not found", What::NoLease, ErrorKind::Unavailable),
            (7, "etcdserver: permission denied", What::Refused, ErrorKind::Config),
            (8, "etcdserver: mvcc: database space exceeded", What::Refused, ErrorKind::Unavailable),
            (8, "etcdserver: too many requests", What::Refused, ErrorKind::Unavailable),
            (9, "etcdserver: authentication is not enabled", What::Refused, ErrorKind::Config),
            (
                11,
                "etcdserver: mvcc: required revision has been compacted",
                What::Refused,
                ErrorKind::Unavailable,
            ),
            (12, "unknown service", What::Refused, ErrorKind::Config),
            (14, "etcdserver: no leader", What::Elsewhere, ErrorKind::Unavailable),
            (14, "etcdserver: leader changed", What::Silence, ErrorKind::Unavailable),
            (14, "etcdserver: request timed out", What::Silence, ErrorKind::Unavailable),
            (1, "Timeout expired", What::Silence, ErrorKind::Unavailable),
            (16, "etcdserver: invalid auth token", What::Refused, ErrorKind::Unavailable),
        ];
        for (code, text, what, kind) in rows {
            let (sorted, sorted_kind, _) = sort(code, text);
            assert_eq!((sorted, sorted_kind), (what, kind), "{code} {text}");
        }
    }

    #[test]
    fn what_was_never_sent_may_be_asked_elsewhere_and_what_broke_may_have_been_done() {
        let failure = |kind| Failure::from(etcd_client::Error::IoError(io::Error::from(kind)));
        assert_eq!(failure(io::ErrorKind::ConnectionRefused).what, What::Elsewhere);
        let broke = Failure::from(etcd_client::Error::WatchError(String::new()));
        assert_eq!(broke.what, What::Silence);
        assert!(Error::from(broke).is_ambiguous());
    }
}
