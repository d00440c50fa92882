//! Why a connection was not made, and what may help: most of it is a URL that says the wrong thing.

use lock_core::Error;
use redis::ErrorKind;
use redis::RedisError;

use crate::error::During;
use crate::error::Failure;
use crate::error::classify;
use crate::server::Way;

/// Says why a server could not be connected to.
pub(crate) fn failed(failure: Failure, way: &Way) -> Error {
    let failure = match failure {
        Failure::Driver(failure) => failure,
        Failure::Refused(error) => return error,
    };
    let error = classify(failure.clone(), During::Connect);
    let words = words(&failure, &error, way.is_encrypted());
    at(way, &error, &words).with_source(failure)
}

/// Says why a server that was connected to is none to use.
pub(crate) fn unfit(error: &Error, way: &Way) -> Error {
    at(way, error, error.message())
}

fn at(way: &Way, error: &Error, words: &str) -> Error {
    // Sentinels and clusters name servers that no URL does.
    let told = Error::new(error.kind(), format!("{}: {words}", way.address()));
    if error.is_retryable() { told } else { told.permanent() }
}

/// The driver's own words, where they are used, are those of sockets and TLS, which know no password.
fn words(failure: &RedisError, error: &Error, encrypted: bool) -> String {
    let answered = failure.code().is_some() || failure.kind() == ErrorKind::AuthenticationFailed;
    match () {
        () if answered => error.message().to_owned(),
        () if failure.kind() == ErrorKind::Parse => "what answers there is no Redis".to_owned(),
        () if failure.is_connection_refusal() => "nobody listens there".to_owned(),
        () if failure.is_timeout() && encrypted => {
            "no answer in time; if TLS is not spoken there, write redis:// or leave out tls=true"
                .to_owned()
        }
        () if failure.is_timeout() => "no answer in time".to_owned(),
        () if failure.is_connection_dropped() && !encrypted => {
            "the connection was closed; if TLS is spoken there, write rediss:// or tls=true"
                .to_owned()
        }
        () => format!("no connection: {failure}"),
    }
}
