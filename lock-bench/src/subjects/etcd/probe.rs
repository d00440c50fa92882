//! What a server says of itself.

use async_trait::async_trait;
use etcd_client::KvClient;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::connect;
use crate::failure::Outcome;
use crate::store::Load;
use crate::store::Probe;

struct Connection {
    kv: KvClient,
    address: String,
}

pub(super) async fn open(url: String) -> Outcome<Box<dyn Probe>> {
    let address = url.trim_start_matches("etcd://").to_owned();
    Ok(Box::new(Connection { kv: connect(&url).await?.kv_client(), address }))
}

#[async_trait]
impl Probe for Connection {
    async fn ping(&self) -> Outcome {
        self.kv.clone().put("ping", "", None).await?;
        Ok(())
    }

    async fn load(&self) -> Outcome<Load> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(Load { commands: requests(&text), scripts: 0 })
    }
}

/// Adds up what came as messages: `grpc_server_msg_received_total{…} 7`.
fn requests(metrics: &str) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{"));
    let numbers = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    numbers.sum::<f64>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_added_up() {
        let text = "# HELP x\ngrpc_server_msg_received_total{grpc_method=\"Txn\"} 21\n\
                    grpc_server_msg_received_total{grpc_method=\"Range\"} 1e+02\ngrpc_server_msg_sent_total{} 5\n";
        assert_eq!(requests(text), 121);
    }
}
