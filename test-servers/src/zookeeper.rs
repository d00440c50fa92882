//! ZooKeeper, a server alone.

use std::path::Path;

use rustix::process::Signal;

use crate::Kind;
use crate::Program;
use crate::Result;
use crate::port::free_port;
use crate::process::tethered;
use crate::server::Plan;
use crate::server::ask;

/// ZooKeeper.
pub const ZOOKEEPER: Kind = Kind {
    name: "zookeeper",
    program: Program::new("java", &["zookeeper", "default-jre-headless"])
        .beside("../share/java/zookeeper.jar"),
    plan,
};

/// Where Debian keeps how it logs, and the library that it is.
const CLASSES: &str = "/etc/zookeeper/conf_example:/usr/share/java/zookeeper.jar";

/// Its unit of time in milliseconds, short so that sessions can be; what clients say of it.
const TICK: u32 = 100;

fn plan(java: &Path, folder: &Path) -> Result<Plan> {
    let port = free_port();
    std::fs::write(folder.join("zoo.cfg"), settings(port, &folder.join("data")))?;
    let mut command = tethered(java, Signal::TERM, None);
    // Small and quick to start; what is written need not survive the machine.
    command.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.args(["-Dzookeeper.forceSync=no", "-Djava.net.preferIPv4Stack=true"]);
    command.args(["-cp", CLASSES, "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg"]);
    command.env("zookeeper.log.dir", folder);
    let ready = move || ask(port, "srvr").is_ok_and(|answer| answer.contains("Mode:"));
    let url = format!("zookeeper://127.0.0.1:{port}?session_timeout=2s&tick_time={TICK}ms");
    Ok(Plan { command, end: Signal::TERM, url, ready: Box::new(ready) })
}

fn settings(port: u16, data: &Path) -> String {
    format!(
        "tickTime={TICK}\nmaxSessionTimeout=60000\nclientPort={port}\n\
         clientPortAddress=127.0.0.1\ndataDir={}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\n",
        data.display()
    )
}
