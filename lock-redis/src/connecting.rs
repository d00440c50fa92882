//! Why a connection was not made, and what may help: most of it is a URL that says the wrong thing.

use lock_core::Error;
use redis::Client;
use redis::ConnectionAddr;
use redis::ErrorKind;
use redis::RedisError;

use crate::error::During;
use crate::error::classify;

/// Says why `client` could not connect.
pub(crate) fn failed(failure: RedisError, client: &Client) -> Error {
    let error = classify(failure.clone(), During::Connect);
    let words = words(&failure, &error, is_encrypted(client));
    at(client, &error, &words).with_source(failure)
}

/// Says why the server that `client` has reached is none to use.
pub(crate) fn unfit(error: &Error, client: &Client) -> Error {
    at(client, error, error.message())
}

fn at(client: &Client, error: &Error, words: &str) -> Error {
    // Sentinels and clusters name servers that no URL does.
    let address = client.get_connection_info().addr();
    let told = Error::new(error.kind(), format!("{address}: {words}"));
    if error.is_retryable() { told } else { told.permanent() }
}

fn is_encrypted(client: &Client) -> bool {
    matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
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
