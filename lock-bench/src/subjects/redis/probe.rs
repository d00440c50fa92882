//! What a server says of itself.

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;

use super::connect;
use crate::failure::Outcome;
use crate::store::Load;
use crate::store::Probe;

struct Connection(MultiplexedConnection);

pub(super) async fn open(url: String) -> Outcome<Box<dyn Probe>> {
    Ok(Box::new(Connection(connect(&url).await?)))
}

#[async_trait]
impl Probe for Connection {
    async fn ping(&self) -> Outcome {
        Ok(redis::cmd("PING").exec_async(&mut self.0.clone()).await?)
    }

    async fn load(&self) -> Outcome<Load> {
        let mut info = redis::cmd("INFO");
        let text: String = info.arg("commandstats").query_async(&mut self.0.clone()).await?;
        Ok(load(&text))
    }
}

/// Reads lines as `cmdstat_evalsha:calls=21,usec=175,…`.
fn load(text: &str) -> Load {
    let mut load = Load::default();
    for line in text.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
        let Some((name, rest)) = line.split_once(":calls=") else { continue };
        let calls = rest.split(',').next().and_then(|calls| calls.parse().ok()).unwrap_or(0);
        load.commands += calls;
        if ["eval", "evalsha"].contains(&name) {
            load.scripts += calls;
        }
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_added_up_and_scripts_told_from_the_rest() {
        let text = "# Commandstats\r\ncmdstat_evalsha:calls=21,usec=175,usec_per_call=8.33\r\n\
                    cmdstat_get:calls=4,usec=1\r\ncmdstat_eval:calls=2,usec=9\r\n";
        let load = load(text);
        assert_eq!((load.commands, load.scripts), (27, 23));
    }
}
