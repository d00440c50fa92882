//! What the tests need besides Rust.

use std::path::PathBuf;

use crate::process::find;
use crate::server;
use crate::server::Start;

/// A program of the operating system.
pub(crate) struct Need {
    /// What people call it.
    pub(crate) name: &'static str,
    /// The program by which we know that it is there.
    pub(crate) program: &'static str,
    /// A file that must be there too, seen from the program's folder.
    pub(crate) beside: Option<&'static str>,
    /// The Debian packages that bring it.
    pub(crate) packages: &'static [&'static str],
    /// The crates of the workspace that cannot be built without it.
    pub(crate) builds: &'static [&'static str],
    /// How to start it, if it is a server.
    pub(crate) server: Option<Server>,
}

/// What a server is to the tests.
pub(crate) struct Server {
    /// The variable that tells the tests where it is. If it is set already, that server is used.
    pub(crate) variable: &'static str,
    pub(crate) start: Start,
}

pub(crate) const NEEDS: &[Need] = &[
    Need {
        name: "protoc",
        program: "protoc",
        // Debian keeps what every other file imports in a package of its own.
        beside: Some("../include/google/protobuf/descriptor.proto"),
        packages: &["protobuf-compiler", "libprotobuf-dev"],
        builds: &["lock-etcd"],
        server: None,
    },
    Need {
        name: "redis",
        program: "redis-server",
        beside: None,
        packages: &["redis-server"],
        builds: &[],
        // Those to be hurt are started by the tests.
        server: Some(Server { variable: "LOCK_TEST_REDIS_URL", start: server::redis::start }),
    },
    Need {
        name: "redlock",
        program: "redis-server",
        beside: None,
        packages: &["redis-server"],
        builds: &[],
        server: Some(Server { variable: "LOCK_TEST_REDLOCK_URLS", start: server::redis::start }),
    },
    Need {
        name: "mysql",
        program: "mariadbd",
        beside: None,
        packages: &["mariadb-server"],
        builds: &[],
        // The tests start their own.
        server: None,
    },
    Need {
        name: "postgres",
        program: "initdb",
        beside: None,
        // Tests refuse the pooler.
        packages: &["postgresql", "pgbouncer"],
        builds: &[],
        server: Some(Server { variable: "LOCK_TEST_POSTGRES_URL", start: server::postgres::start }),
    },
    Need {
        name: "etcd",
        program: "etcd",
        // Tests lock against it.
        beside: Some("etcdctl"),
        packages: &["etcd-server", "etcd-client", "openssl"],
        builds: &[],
        server: Some(Server { variable: "LOCK_TEST_ETCD_URL", start: server::etcd::start }),
    },
    Need {
        name: "zookeeper",
        program: "java",
        beside: Some("../share/java/zookeeper.jar"),
        packages: &["zookeeper", "default-jre-headless"],
        builds: &[],
        server: Some(Server {
            variable: "LOCK_TEST_ZOOKEEPER_URL",
            start: server::zookeeper::start,
        }),
    },
];

impl Need {
    /// Finds the program, with what must be beside it.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        let program = find(self.program, &server::postgres::folders())?;
        let there = |file| program.parent().is_some_and(|folder| folder.join(file).is_file());
        self.beside.is_none_or(there).then_some(program)
    }

    /// Says what of it is not there.
    pub(crate) fn lack(&self) -> String {
        let beside = self.beside.filter(|_| find(self.program, &[]).is_some());
        format!("{} is not installed", beside.unwrap_or(self.program))
    }

    /// Tells whether the tests would go without.
    pub(crate) fn is_missing(&self) -> bool {
        let elsewhere = self.server.as_ref().is_some_and(|server| server.is_elsewhere());
        !elsewhere && self.find().is_none()
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
