//! Whether a server can keep the promise, asked once on every new connection.

use std::time::Duration;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;

/// What `INFO` says of a server, as far as locks depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) role: String,
    /// Names the data; another when a replica becomes a primary.
    pub(crate) replication_id: String,
    /// Major and minor; Valkey says which Redis it is compatible with.
    pub(crate) version: (u32, u32),
    pub(crate) maxmemory: u64,
    pub(crate) maxmemory_policy: String,
    /// In whole seconds, by the server's wall clock.
    pub(crate) uptime: Duration,
    /// Names the process.
    pub(crate) run_id: String,
    pub(crate) mode: String,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// It may drop keys when its memory is full.
    pub(crate) allows_eviction: bool,
    /// It may have some of the keys only.
    pub(crate) clustered: bool,
}

impl Facts {
    /// Reads the text of `INFO`; what is missing stays empty.
    pub(crate) fn read(info: &str) -> Self {
        let mut facts = Self::default();
        for (name, value) in info.lines().filter_map(|line| line.trim().split_once(':')) {
            match name {
                "role" => facts.role = value.to_owned(),
                "redis_version" => facts.version = version(value),
                "maxmemory" => facts.maxmemory = value.parse().unwrap_or(0),
                "maxmemory_policy" => facts.maxmemory_policy = value.to_owned(),
                // The latter is what Valkey calls it.
                "redis_mode" | "server_mode" => facts.mode = value.to_owned(),
                "uptime_in_seconds" => {
                    facts.uptime = Duration::from_secs(value.parse().unwrap_or(0));
                }
                "master_replid" => facts.replication_id = value.to_owned(),
                "run_id" => facts.run_id = value.to_owned(),
                _ => {}
            }
        }
        facts
    }

    /// Refuses a server that would break the promise silently.
    pub(crate) fn check(&self, terms: Terms) -> Result<()> {
        if self.mode == "sentinel" {
            let message = "this is a sentinel: write redis+sentinel://HOSTS/SERVICE";
            return Err(Error::new(ErrorKind::Config, message));
        }
        if self.mode == "cluster" && !terms.clustered {
            let message = "this server is one of a cluster, which needs redis+cluster://";
            return Err(Error::new(ErrorKind::Config, message));
        }
        if self.role == "slave" {
            // It may be promoted yet, or another may be asked.
            let message = "this server is a replica: name the primary, or use redis+sentinel://";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        if self.version < (6, 2) {
            let (major, minor) = self.version;
            let message = format!("redis {major}.{minor} is too old: locks need 6.2 or later");
            return Err(Error::new(ErrorKind::Config, message));
        }
        let evicts = self.maxmemory > 0 && self.maxmemory_policy != "noeviction";
        if evicts && !terms.allows_eviction {
            let message = format!(
                "the server drops keys when its memory is full (maxmemory-policy {}), locks among \
                 them: set noeviction there, or unsafe_eviction=allow in the URL",
                self.maxmemory_policy
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(())
    }

    /// Whether pushes can stay within a shard.
    pub(crate) fn has_sharded_channels(&self) -> bool {
        self.version >= (7, 0)
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nuptime_in_seconds:12\r\n\
                        # Memory\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nrole:master\r\n";

    fn kind(info: &str) -> Option<ErrorKind> {
        Facts::read(info).check(Terms::default()).err().map(|error| error.kind())
    }

    #[test]
    fn reads_what_locks_depend_on() {
        let facts = Facts::read(GOOD);
        assert_eq!((facts.version, facts.uptime), ((7, 0), Duration::from_secs(12)));
        assert_eq!((facts.run_id.as_str(), facts.role.as_str()), ("abc", "master"));
    }

    #[test]
    fn a_server_that_forgets_locks_is_refused() {
        assert_eq!(kind(GOOD), None, "without a limit nothing is ever dropped");
        let limited = GOOD.replace("maxmemory:0", "maxmemory:1000000");
        assert_eq!(kind(&limited), Some(ErrorKind::Config));
        let terms = Terms { allows_eviction: true, ..Terms::default() };
        assert!(Facts::read(&limited).check(terms).is_ok());
        assert_eq!(kind(&limited.replace("allkeys-lru", "noeviction")), None);
    }

    #[test]
    fn a_replica_and_an_old_server_are_refused() {
        assert_eq!(kind(&GOOD.replace("master", "slave")), Some(ErrorKind::Unavailable));
        assert_eq!(kind(&GOOD.replace("7.0.15", "6.0.16")), Some(ErrorKind::Config));
    }

    #[test]
    fn a_member_of_a_cluster_is_known_whatever_calls_its_mode() {
        for name in ["redis_mode", "server_mode"] {
            assert_eq!(kind(&format!("{GOOD}{name}:cluster\r\n")), Some(ErrorKind::Config));
        }
    }
}
