//! What the tests need besides Rust: a line for each.

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
    /// The Debian package that brings it.
    pub(crate) package: &'static str,
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
    Need { name: "protoc", program: "protoc", package: "protobuf-compiler", server: None },
    Need {
        name: "postgres",
        program: "initdb",
        package: "postgresql",
        server: Some(Server { variable: "LOCK_TEST_POSTGRES_URL", start: server::postgres::start }),
    },
    Need {
        name: "etcd",
        program: "etcd",
        package: "etcd-server",
        server: Some(Server { variable: "LOCK_TEST_ETCD_URL", start: server::etcd::start }),
    },
];

impl Need {
    /// Finds the program.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        find(self.program, &server::postgres::folders())
    }

    /// Tells whether the tests would go without.
    pub(crate) fn is_missing(&self) -> bool {
        let elsewhere = self.server.as_ref().is_some_and(|server| server.is_elsewhere());
        !elsewhere && self.find().is_none()
    }
}

impl Server {
    /// Tells whether somebody has named a server to use.
    pub(crate) fn is_elsewhere(&self) -> bool {
        std::env::var_os(self.variable).is_some_and(|url| !url.is_empty())
    }
}
