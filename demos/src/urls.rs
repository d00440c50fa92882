//! Which stores to use, and which not.

use test_servers::Kind;

/// Servers to use instead of our own.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Stores")]
pub(crate) struct Urls {
    /// A Redis server; without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_REDIS_URL", value_name = "URL")]
    redis: Option<String>,
    /// A MySQL or MariaDB server on which we may create databases; without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_MYSQL_URL", value_name = "URL")]
    mysql: Option<String>,
    /// A Postgres server on which we may create databases; without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_POSTGRES_URL", value_name = "URL")]
    postgres: Option<String>,
    /// An etcd server (with --features etcd); without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_ETCD_URL", value_name = "URL")]
    etcd: Option<String>,
    /// A ZooKeeper server; without it one is started
    #[arg(long, global = true, env = "LOCK_TEST_ZOOKEEPER_URL", value_name = "URL")]
    zookeeper: Option<String>,
    /// One more store, where each is shown; may be repeated
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) also: Vec<String>,
    /// Go without this store where each is shown: redis, redlock, mysql …; may be repeated
    #[arg(
        long,
        global = true,
        env = "LOCK_TEST_EXCLUDE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    without: Vec<String>,
}

impl Urls {
    /// An empty variable names nothing.
    pub(crate) fn given(&self, kind: &Kind) -> Option<String> {
        let url = match kind.name() {
            "redis" => &self.redis,
            "mysql" => &self.mysql,
            "postgres" => &self.postgres,
            "etcd" => &self.etcd,
            _ => &self.zookeeper,
        };
        url.clone().filter(|url| !url.is_empty())
    }

    /// Tells whether a store is not to be used.
    pub(crate) fn exclude(&self, name: &str) -> bool {
        self.without.iter().any(|without| without == name)
    }
}
