//! The kinds of servers there are.

use std::path::Path;

use crate::Error;
use crate::Program;
use crate::Result;
use crate::Server;
use crate::server::Plan;

/// A kind of server.
#[derive(Debug)]
pub struct Kind {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    /// Makes what it needs in a folder, and says how it is served.
    pub(crate) plan: fn(program: &Path, folder: &Path) -> Result<Plan>,
}

impl Kind {
    /// Returns what people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the program by which we know that it is installed.
    #[must_use]
    pub const fn program(&self) -> Program {
        self.program
    }

    /// Starts a server of this kind, with nothing in it.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not serve within a minute: then the error has the end of what it said.
    pub fn start(&self) -> Result<Server> {
        let Some(program) = self.program.find() else {
            let packages = self.program.packages().join(" ");
            return Err(Error(format!("{}: apt-get install {packages}", self.program.lack())));
        };
        Server::start(self, &program)
    }
}
