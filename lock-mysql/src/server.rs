//! Whether a server can keep the promise, asked once on every new connection.

use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

/// What a server says of itself, as far as locks depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Empty if it was not asked for.
    version: String,
    read_only: bool,
    binlog_format: String,
    /// Whether several nodes of a cluster may be written to.
    many_writers: bool,
    wait_timeout: Duration,
    /// How many bytes one message may have, if it was asked for.
    packet: Option<u64>,
}

/// The longest of our statements with the longest keys has half of that.
const PACKET: u64 = 1 << 20;

impl Facts {
    /// Sets a session up and asks for what a failover can change, in one round trip.
    ///
    /// The mode is our own, so that the server's changes nothing: strict, or a value that does not fit
    /// would be cut. A commit that began the next transaction would keep what comes after it from being
    /// committed, and a limit on what is read would hide holders. A lock that another transaction keeps
    /// is given up after a second, a table that is being changed after five. Names of columns are put together
    /// when a table is looked at. Only MariaDB reads the last line.
    pub(crate) const SETUP: &str = "\
SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',
  autocommit = 1, completion_type = 0, innodb_lock_wait_timeout = 1, lock_wait_timeout = 5,
  sql_safe_updates = 0, sql_big_selects = 1, sql_select_limit = 18446744073709551615,
  group_concat_max_len = 1024;
SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
SELECT 'read_only', CONCAT(@@global.read_only)
UNION ALL SELECT 'innodb_read_only', CONCAT(@@global.innodb_read_only)
UNION ALL SELECT 'wait_timeout', CONCAT(@@session.wait_timeout)
UNION ALL SELECT 'max_allowed_packet', CONCAT(@@session.max_allowed_packet)
/*M! UNION ALL SELECT 'wsrep_on', CONCAT(@@global.wsrep_on) */";

    /// Asks for the rest, when a provider is opened: MySQL takes its time for the answer.
    pub(crate) const ASK: &str = "\
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'binlog_format',
  'group_replication_single_primary_mode')";

    /// Reads names and values; what is missing stays empty.
    pub(crate) fn read(rows: &[MySqlRow]) -> Self {
        let text = |row: &MySqlRow, at| row.try_get_unchecked::<String, _>(at).unwrap_or_default();
        Self::of(rows.iter().map(|row| (text(row, 0), text(row, 1))))
    }

    fn of(variables: impl Iterator<Item = (String, String)>) -> Self {
        let mut facts = Self::default();
        for (name, value) in variables {
            match name.as_str() {
                "version" => facts.version = value,
                "read_only" | "innodb_read_only" => {
                    facts.read_only |= !matches!(value.as_str(), "OFF" | "0");
                }
                "binlog_format" => facts.binlog_format = value,
                "wsrep_on" => facts.many_writers |= matches!(value.as_str(), "ON" | "1"),
                "group_replication_single_primary_mode" => facts.many_writers |= value == "OFF",
                "wait_timeout" => {
                    facts.wait_timeout = Duration::from_secs(value.parse().unwrap_or(0));
                }
                "max_allowed_packet" => facts.packet = value.parse().ok(),
                _ => {}
            }
        }
        facts
    }

    /// Refuses a server that would break the promise silently.
    pub(crate) fn check(&self, any_cluster: bool) -> Result<()> {
        if self.read_only {
            // It may be promoted yet, or another may be asked.
            let message = "this server is read-only, as replicas are: name the primary";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let (name, least) =
            if self.version.contains("MariaDB") { ("MariaDB", (10, 6)) } else { ("MySQL", (8, 4)) };
        if !self.version.is_empty() && version(&self.version) < least {
            let (version, (major, minor)) = (&self.version, least);
            return Err(config(format!(
                "{name} {version} is too old: locks need {major}.{minor} or later"
            )));
        }
        if self.binlog_format == "STATEMENT" {
            let message = "the server logs statements (binlog_format=STATEMENT), which locks cannot \
                           be replayed from: set ROW there";
            return Err(config(message.into()));
        }
        if let Some(packet) = self.packet.filter(|packet| *packet < PACKET) {
            return Err(config(format!(
                "the server takes messages of up to {packet} bytes only, and renewals of many locks are longer: set \
                 max_allowed_packet to {PACKET} or more there"
            )));
        }
        if self.many_writers && !any_cluster {
            let message = "this node belongs to a cluster (Galera or group replication) that may be \
                           written to on several nodes, and then two can hold one lock: let all \
                           clients use one node and say unsafe_cluster=allow in the URL";
            return Err(config(message.into()));
        }
        Ok(())
    }

    /// How long a connection may be idle without the server closing it, with room to spare.
    pub(crate) fn idle_limit(&self) -> Duration {
        self.wait_timeout / 2
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("version", "10.11.19-MariaDB-log"),
        ("read_only", "OFF"),
        ("binlog_format", "MIXED"),
        ("wsrep_on", "OFF"),
        ("wait_timeout", "600"),
    ];

    fn facts(changed: (&str, &str)) -> Facts {
        let same = GOOD.into_iter().filter(|(name, _)| *name != changed.0);
        Facts::of(same.chain([changed]).map(|(name, value)| (name.into(), value.into())))
    }

    fn kind(name: &str, value: &str) -> Option<ErrorKind> {
        facts((name, value)).check(false).err().map(|error| error.kind())
    }

    #[test]
    fn a_server_that_breaks_the_promise_is_refused() {
        assert_eq!(kind("version", "9.7.4"), None);
        assert_eq!(kind("version", "8.0.43"), Some(ErrorKind::Config));
        assert_eq!(kind("version", "10.5.9-MariaDB"), Some(ErrorKind::Config));
        assert_eq!(kind("version", ""), None);
        assert_eq!(kind("read_only", "ON"), Some(ErrorKind::Unavailable));
        assert_eq!(kind("read_only", "1"), Some(ErrorKind::Unavailable));
        assert_eq!(kind("read_only", "0"), None);
        assert_eq!(kind("read_only", "NO_LOCK"), Some(ErrorKind::Unavailable));
        assert_eq!(kind("innodb_read_only", "ON"), Some(ErrorKind::Unavailable));
        assert_eq!(kind("binlog_format", "STATEMENT"), Some(ErrorKind::Config));
        assert_eq!(kind("wsrep_on", "ON"), Some(ErrorKind::Config));
        assert!(facts(("wsrep_on", "ON")).check(true).is_ok());
        assert_eq!(kind("max_allowed_packet", "1048575"), Some(ErrorKind::Config));
        assert_eq!(kind("max_allowed_packet", "1048576"), None);
        assert_eq!(kind("group_replication_single_primary_mode", "ON"), None);
        assert_eq!(kind("group_replication_single_primary_mode", "OFF"), Some(ErrorKind::Config));
    }

    #[test]
    fn idle_connections_are_given_up_before_the_server_does() {
        assert_eq!(facts(("wait_timeout", "600")).idle_limit(), Duration::from_secs(300));
    }
}
