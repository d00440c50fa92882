//! What a user can set, parsed at the edge.

use std::sync::Arc;
use std::time::Duration;

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::IntoConnectionInfo as _;
use redis::ProtocolVersion;
use redis::RedisConnectionInfo;
use redis::io::tcp::TcpSettings;
use tokio::runtime::Handle;

use crate::backend::Redis;
use crate::node::Limits;
use crate::node::Node;
use crate::route::Route;

/// How `redis:` URLs open a server.
pub const DRIVER: Driver = Driver {
    name: "redis",
    schemes: &["redis"],
    params: &[Param { name: "connect_timeout", help: "longest time to make a connection; 2s" }],
    connect: |url| Box::pin(open(url)),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    let limits = Limits {
        connect: url.duration("connect_timeout")?.unwrap_or(Duration::from_secs(2)),
        reply: Duration::from_secs(5),
    };
    let [host] = url.hosts() else {
        return Err(Error::new(ErrorKind::Config, "name one server, as in redis://127.0.0.1:6379"));
    };
    let address = ConnectionAddr::Tcp(host.name.clone(), host.port.unwrap_or(6379));
    let info: ConnectionInfo = address
        .into_connection_info()
        .map_err(|failure| Error::new(ErrorKind::Config, "not an address").with_source(failure))?;
    let mut settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    if let Some(user) = url.user() {
        settings = settings.set_username(user);
    }
    if let Some(password) = url.password() {
        settings = settings.set_password(password);
    }
    let info = info
        .set_redis_settings(settings)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let node = Node::new(info, limits, Handle::current())?;
    Ok(Arc::new(Redis::new(Route::One(node))))
}
