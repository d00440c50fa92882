//! Redis servers that know nothing of each other, as Redlock wants them.

use std::time::Duration;

use test_servers::REDIS;
use test_servers::Server;

use crate::redis_cli::RedisCli;
use crate::story::Result;
use crate::story::until;

/// Servers that a demo may hurt.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Server>,
}

impl Fleet {
    pub(crate) fn start(size: usize) -> Result<Self> {
        let servers = (0..size).map(|_| REDIS.start()).collect::<test_servers::Result<_>>()?;
        Ok(Self { servers })
    }

    pub(crate) fn url(&self, query: &str) -> String {
        let names: Vec<_> =
            self.servers.iter().map(|server| server.url().replace("redis://", "")).collect();
        format!("redlock://{}?{query}", names.join(","))
    }

    /// Waits until every server has run for longer than `age`: it counts only if it has run for longer than any lock
    /// can last, because it may have forgotten one.
    pub(crate) async fn await_age(&self, age: Duration) -> Result {
        until("servers that are old enough", async || {
            for server in &self.servers {
                if uptime(server).await? <= age {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    }

    /// The servers of `up` that have something under `key`, by the numbers people give them.
    pub(crate) async fn holding(&self, key: &str, up: &[usize]) -> Result<Vec<usize>> {
        let mut holding = Vec::new();
        for number in up {
            let mut cli = RedisCli::connect(self.servers[number - 1].url()).await?;
            if cli.run(&format!("EXISTS {key}")).await? == "1" {
                holding.push(*number);
            }
        }
        Ok(holding)
    }
}

/// As it says itself, in whole seconds.
async fn uptime(server: &Server) -> Result<Duration> {
    let info = RedisCli::connect(server.url()).await?.run("INFO server").await?;
    let seconds = info.lines().find_map(|line| line.strip_prefix("uptime_in_seconds:"));
    Ok(Duration::from_secs(seconds.ok_or("a server does not know its age")?.trim().parse()?))
}
