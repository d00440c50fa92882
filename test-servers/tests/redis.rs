//! A server can be hurt and is well again, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use test_servers::REDIS;
use test_servers::Server;

fn ask(server: &Server, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("redis://"))?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn it_is_killed_restarted_frozen_and_gone() {
    let mut server = REDIS.start().unwrap();
    let folder = ask(&server, "CONFIG GET dir").unwrap();
    let folder = folder.lines().find(|line| line.starts_with('/')).unwrap().to_owned();
    assert!(std::path::Path::new(&folder).is_dir());
    assert!(ask(&server, "SET a 1").unwrap().contains("+OK"));
    server.kill().unwrap();
    assert!(ask(&server, "PING").is_err());
    server.restart().unwrap();
    assert!(ask(&server, "GET a").unwrap().contains("$-1"), "it keeps nothing");
    server.freeze().unwrap();
    assert!(ask(&server, "PING").is_err());
    server.thaw().unwrap();
    assert!(ask(&server, "PING").unwrap().contains("PONG"));
    // One that is frozen ends as well.
    server.freeze().unwrap();
    let url = server.url().to_owned();
    drop(server);
    assert!(TcpStream::connect(url.trim_start_matches("redis://")).is_err());
    assert!(!std::path::Path::new(&folder).exists());
}
