//! ZooKeeper, a server alone.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::Running;
use super::spawn;
use super::tethered;
use super::with_log;
use crate::Result;
use crate::port::free_port;
use crate::process::await_ready;

/// Where Debian keeps how it logs, and the library that it is.
const CLASSES: &str = "/etc/zookeeper/conf_example:/usr/share/java/zookeeper.jar";

/// Its unit of time, short so that sessions can be; what clients say of it.
const TICK: &str = "100";

/// Serves an empty store; `java` is the program.
pub(crate) fn start(java: &Path, folder: &Path) -> Result<Running> {
    let port = free_port();
    std::fs::write(folder.join("zoo.cfg"), settings(port, &folder.join("data")))?;
    let mut server = tethered(java, None);
    // Small and quick to start; what is written need not survive the machine.
    server.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    server.args(["-Dzookeeper.forceSync=no", "-Djava.net.preferIPv4Stack=true"]);
    server.args(["-cp", CLASSES, "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zoo.cfg"]);
    server.env("zookeeper.log.dir", folder).current_dir(folder);
    let mut child = spawn(&mut server, folder)?;
    let ready = await_ready(&mut child, || serves(port).unwrap_or(false));
    let url = format!("zookeeper://127.0.0.1:{port}?session_timeout=2s&tick_time={TICK}ms");
    let running = Running { child, signal: Signal::TERM, url };
    ready.map_err(|failure| with_log(failure, folder))?;
    Ok(running)
}

fn settings(port: u16, data: &Path) -> String {
    format!(
        "tickTime={TICK}\nmaxSessionTimeout=60000\nclientPort={port}\n\
         clientPortAddress=127.0.0.1\ndataDir={}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\n",
        data.display()
    )
}

/// Asks the server what it is.
fn serves(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"srvr")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains("Mode:"))
}
