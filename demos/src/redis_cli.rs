//! A client that is not ours, which sends and shows what people type into `redis-cli`.

use redis::Value;
use redis::aio::MultiplexedConnection;

use crate::story::Result;

/// A connection to a Redis server.
#[derive(Clone)]
pub(crate) struct RedisCli(MultiplexedConnection);

impl RedisCli {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        Ok(Self(redis::Client::open(url)?.get_multiplexed_async_connection().await?))
    }

    /// Sends a line of words and returns the answer as `redis-cli` shows it.
    pub(crate) async fn run(&mut self, line: &str) -> Result<String> {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            command.arg(word);
        });
        Ok(shown(&command.query_async(&mut self.0).await?))
    }

    /// Sets a key if it is not there, for so many milliseconds; tells whether it did.
    pub(crate) async fn set_nx(&mut self, key: &str, value: &str, millis: u64) -> Result<bool> {
        Ok(self.run(&format!("SET {key} {value} NX PX {millis}")).await? == "OK")
    }

    /// Runs a script on a key with one argument.
    pub(crate) async fn eval(&mut self, script: &str, key: &str, argument: &str) -> Result {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1).arg(key).arg(argument);
        Ok(command.query_async(&mut self.0).await?)
    }

    /// Reads a number; none is zero.
    pub(crate) async fn number(&mut self, key: &str) -> Result<i64> {
        let text = self.run(&format!("GET {key}")).await?;
        Ok(if text == NIL { 0 } else { text.parse()? })
    }
}

/// What stands for no value.
pub(crate) const NIL: &str = "(nil)";

fn shown(value: &Value) -> String {
    match value {
        Value::Nil => NIL.to_owned(),
        Value::Okay => "OK".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::SimpleString(text) => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}
