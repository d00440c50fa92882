//! HTTP between the programs: a server on a free port, and the smallest client.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

use crate::story::Result;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves on a free port of this host until the runtime ends.
pub(crate) async fn serve(router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(
    server: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer> {
    let mut request = format!("{line} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    parsed(&tokio::time::timeout(PATIENCE, exchange).await??)
}

fn parsed(answer: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the server closed in mid-answer")?;
    let status = head.split(' ').nth(1).ok_or("no status in the answer")?.parse()?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let answer = parsed(b"HTTP/1.1 409 Conflict\r\na: b\r\n\r\nstale\r\n\r\n!").unwrap();
        assert_eq!(answer, Answer { status: 409, body: "stale\r\n\r\n!".into() });
        assert!(parsed(b"HTTP/1.1 200 OK\r\na:").is_err());
    }
}
