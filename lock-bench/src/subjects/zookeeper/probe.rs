//! What a server says of itself.

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use zookeeper_client::Acls;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;

use super::address;
use super::connect;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::store::Load;
use crate::store::Probe;

/// The node that a ping writes.
const PING: &str = "/ping";

struct Connection {
    client: Client,
    url: String,
}

pub(super) async fn open(url: String) -> Outcome<Box<dyn Probe>> {
    let client = connect(&url).await?;
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    client.create(PING, &[], &options).await?;
    Ok(Box::new(Connection { client, url }))
}

/// Sends a command of four letters.
pub(super) async fn ask(url: &str, command: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address(url)).await?;
    stream.write_all(command.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.contains("not currently serving") || answer.is_empty() {
        return Err(Failure::new("the server does not serve yet"));
    }
    Ok(answer)
}

#[async_trait]
impl Probe for Connection {
    async fn ping(&self) -> Outcome {
        self.client.set_data(PING, &[], None).await?;
        Ok(())
    }

    async fn load(&self) -> Outcome<Load> {
        let answer = ask(&self.url, "mntr").await?;
        let received = answer.lines().find_map(|line| line.strip_prefix("zk_packets_received\t"));
        let commands = received.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        Ok(Load { commands, scripts: 0 })
    }
}
