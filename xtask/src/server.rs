//! The servers that tests talk to.

use std::thread::sleep;
use std::time::Duration;

use crate::Result;
use crate::need::NEEDS;
use crate::need::Need;
use crate::need::Server;
use crate::package;
use crate::signal;

/// The servers of one run.
pub(crate) struct Servers {
    /// How the tests are told of them.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// What is not there although tests need it, and why.
    pub(crate) absent: Vec<(&'static Need, String)>,
    running: Vec<test_servers::Server>,
}

impl Servers {
    /// Starts all that can be started and that nobody has named another for.
    pub(crate) fn start(without: &[String]) -> Result<Self> {
        let (variables, absent, running) = (Vec::new(), Vec::new(), Vec::new());
        let mut servers = Self { variables, absent, running };
        for need in NEEDS.iter().filter(|need| !without.iter().any(|name| name == need.name)) {
            servers.add(need)?;
        }
        Ok(servers)
    }

    fn add(&mut self, need: &'static Need) -> Result {
        if need.server.as_ref().is_some_and(Server::is_elsewhere) {
            return Ok(());
        }
        if need.program.find().is_none() {
            self.absent.push((need, need.program.lack()));
            return Ok(());
        }
        let Some(server) = &need.server else { return Ok(()) };
        match self.start_one_or_several(server) {
            Ok(urls) => self.variables.push((server.variable, urls.join(","))),
            Err(failure) => self.absent.push((need, format!("it did not start: {failure}"))),
        }
        signal::check()
    }

    fn start_one_or_several(&mut self, server: &Server) -> Result<Vec<String>> {
        let mut urls = Vec::new();
        for _ in 0..server.count() {
            let running = server.kind.start()?;
            urls.push(running.url().to_owned());
            self.running.push(running);
        }
        Ok(urls)
    }
}

/// `cargo xtask servers`.
pub(crate) fn serve(install: bool) -> Result {
    if install {
        package::install(&[])?;
    }
    let servers = Servers::start(&[])?;
    for (need, why) in &servers.absent {
        eprintln!("{}: {why}", need.name);
    }
    if !servers.absent.is_empty() {
        eprintln!("{}", package::advice(servers.absent.iter().map(|(need, _)| *need)));
    }
    for (variable, url) in &servers.variables {
        println!("export {variable}='{url}'");
    }
    eprintln!("running until ctrl-c");
    while !signal::has_come() {
        sleep(Duration::from_millis(100));
    }
    Ok(())
}
