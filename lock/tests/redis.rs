//! What users see over real servers of Redis: the manual's words, and no password.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

#[path = "../../lock-redis/tests/servers/mod.rs"]
mod servers;
mod words;

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use lock::Config;
use lock::ErrorKind;
use lock::LockOptions;

use crate::servers::Fleet;
use crate::servers::Server;
use crate::servers::free_port;

/// What stands at the port of a row, as long as this lives.
struct Stand {
    port: u16,
    _servers: Vec<Server>,
}

impl Stand {
    fn of(server: &str) -> Self {
        let one = |arguments: &[&str]| Self::holding(vec![Server::start(arguments)]);
        match server {
            "none" => Self { port: free_port(), _servers: Vec::new() },
            "another program" => Self { port: web(), _servers: Vec::new() },
            "any" => one(&["--bind", "127.0.0.1 127.0.0.2"]),
            "a sentinel" => Self::holding(vec![Server::start_with(Some(""), &["--sentinel"])]),
            "one of a cluster" => one(&["--cluster-enabled", "yes"]),
            "a replica" => {
                let primary = Server::start(&[]);
                let port = primary.port.to_string();
                Self::holding(vec![Server::start(&["--replicaof", "127.0.0.1", &port]), primary])
            }
            "with a password" => one(&["--requirepass", "s3cret"]),
            "that may drop keys" => {
                one(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"])
            }
            _ => panic!("the test does not know how to start {server}"),
        }
    }

    fn holding(servers: Vec<Server>) -> Self {
        Self { port: servers[0].port, _servers: servers }
    }
}

/// Answers each connection as a web server would.
fn web() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    port
}

#[tokio::test]
async fn a_server_is_refused_in_the_manual_s_words() {
    words::check("| server |", |server| {
        let stand = Stand::of(server);
        (stand.port, stand)
    })
    .await;
}

#[tokio::test]
async fn no_password_is_shown_of_what_works_nor_of_what_stops_working() {
    let mut server = Server::start(&["--requirepass", "s3cret"]);
    let port = server.port;
    let text = format!("url: 'redis://:s3cret@127.0.0.1:{port}/?timeout=500ms&prefix=shop:'");
    let config = Config::parse(&text, "yaml").unwrap();
    let locks = config.connect().await.unwrap();
    let guard = locks.lock("a", &LockOptions::new()).await.unwrap();
    let mut shown =
        format!("{config:?} {locks:?} {guard:?} {:?}", locks.status("a").await.unwrap());
    server.kill();
    let error = locks.try_lock("b", &LockOptions::new()).await.unwrap_err();
    shown += &format!("{error} {error:?}");
    shown += &format!("{:?}", guard.unlock().await);
    assert!(shown.contains("nobody listens there"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn who_names_no_ttl_gets_what_a_quorum_keeps_at_most() {
    let fleet = Fleet::start(3);
    fleet.await_age(Duration::from_secs(3));
    let locks = lock::connect(&fleet.url("ttl_max=2s")).await.unwrap();
    let guard = locks.lock("a", &LockOptions::new()).await.unwrap();
    assert_eq!(guard.ttl(), Duration::from_secs(2));
    guard.unlock().await.unwrap();
    let error = lock::connect(&fleet.url("ttl_max=2s&ttl=30s")).await.unwrap_err();
    assert!(error.to_string().ends_with("keeps a lock for at most 2s, not 30s"), "{error}");
}

#[tokio::test]
async fn a_min_validity_that_no_lock_can_have_is_refused_at_connect_and_by_each_lock() {
    let fleet = Fleet::start(3);
    for query in ["min_validity=40s", "min_validity=2s&ttl=1s"] {
        let error = lock::connect(&fleet.url(query)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{query}: {error}");
        assert!(error.to_string().contains("min_validity wants"), "{query}: {error}");
    }
    let locks = lock::connect(&fleet.url("min_validity=40s&ttl=50s")).await.unwrap();
    let brief = LockOptions::new().ttl(Duration::from_secs(10));
    let error = locks.lock("a", &brief).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_section_and_the_environment_say_what_the_url_s_query_does() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let url = server.url();
    let refused = Config::of_url(&url).unwrap().connect().await.unwrap_err();
    assert!(refused.to_string().contains("unsafe_eviction=allow"), "{refused}");
    let section = format!("{{url: '{url}', redis: {{unsafe_eviction: allow}}}}");
    Config::parse(&section, "yaml").unwrap().connect().await.unwrap();
    let variables = [("LOCK_URL", url.as_str()), ("LOCK_REDIS_UNSAFE_EVICTION", "allow")];
    Config::from_vars(variables).unwrap().connect().await.unwrap();
}
