//! What the tests need besides Rust.

use test_servers::ETCD;
use test_servers::Kind;
use test_servers::MYSQL;
use test_servers::POSTGRES;
use test_servers::Program;
use test_servers::REDIS;
use test_servers::ZOOKEEPER;

/// A program of the operating system.
pub(crate) struct Need {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The program by which we know that it is there.
    pub(crate) program: Program,
    /// The crates of the workspace that cannot be built without it.
    pub(crate) builds: &'static [&'static str],
    /// What it is to the tests, if it is a server that we start.
    pub(crate) server: Option<Server>,
}

/// What a server is to the tests.
pub(crate) struct Server {
    /// The variable that tells the tests where it is. If it is set already, that server is used.
    pub(crate) variable: &'static str,
    pub(crate) kind: &'static Kind,
}

pub(crate) const NEEDS: &[Need] = &[
    Need {
        name: "protoc",
        // Debian keeps what every other file imports in a package of its own.
        program: Program::new("protoc", &["protobuf-compiler", "libprotobuf-dev"])
            .beside("../include/google/protobuf/descriptor.proto"),
        builds: &["lock-etcd"],
        server: None,
    },
    // Those to be hurt are started by the tests.
    Need::server("redis", &REDIS, Some("LOCK_TEST_REDIS_URL")),
    Need::server("redlock", &REDIS, Some("LOCK_TEST_REDLOCK_URLS")),
    // The tests start their own.
    Need::server("mysql", &MYSQL, None),
    Need::server("postgres", &POSTGRES, Some("LOCK_TEST_POSTGRES_URL")),
    Need::server("etcd", &ETCD, Some("LOCK_TEST_ETCD_URL")),
    Need::server("zookeeper", &ZOOKEEPER, Some("LOCK_TEST_ZOOKEEPER_URL")),
];

impl Need {
    const fn server(
        name: &'static str,
        kind: &'static Kind,
        variable: Option<&'static str>,
    ) -> Self {
        let server = match variable {
            Some(variable) => Some(Server { variable, kind }),
            None => None,
        };
        Self { name, program: kind.program(), builds: &[], server }
    }

    /// Tells whether the tests would go without.
    pub(crate) fn is_missing(&self) -> bool {
        let elsewhere = self.server.as_ref().is_some_and(|server| server.is_elsewhere());
        !elsewhere && self.program.find().is_none()
    }
}

/// What is missing, but for what is gone without on purpose.
pub(crate) fn missing(without: &[String]) -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(|need| !without.iter().any(|name| name == need.name) && need.is_missing())
}

/// Crates of the workspace that cannot be built without what is missing.
pub(crate) fn not_to_be_built() -> impl Iterator<Item = &'static str> {
    missing(&[]).flat_map(|need| need.builds).copied()
}

impl Server {
    /// How many have to be started: a variable for several URLs is for a quorum, of five.
    pub(crate) fn count(&self) -> usize {
        if self.variable.ends_with("_URLS") { 5 } else { 1 }
    }

    /// Tells whether somebody has named a server to use.
    pub(crate) fn is_elsewhere(&self) -> bool {
        std::env::var_os(self.variable).is_some_and(|url| !url.is_empty())
    }
}
