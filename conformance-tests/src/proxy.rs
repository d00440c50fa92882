//! A TCP proxy with faults, for stores with a server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lock_core::BootInstant;
use lock_core::Clock;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::Link;
use crate::Weather;

/// How many chunks may be under way in one direction; more makes the sender wait.
const UNDER_WAY: usize = 64;

/// Listens on a loopback port and forwards to a server, in any [`Weather`]. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    traffic: Arc<Traffic>,
    accepting: AbortHandle,
}

/// What went through a [`Proxy`].
#[derive(Debug, Default)]
struct Traffic {
    connections: AtomicU64,
    there: AtomicU64,
    back: AtomicU64,
}

impl Proxy {
    /// Starts a proxy to `server` (`host:port`) on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// If no loopback port can be had.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left if it is dropped.
    pub async fn start(server: impl Into<String>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (weather, traffic) = (watch::Sender::new(Weather::Fair), Arc::<Traffic>::default());
        let accept = accept(listener, server.into(), weather.subscribe(), traffic.clone());
        let accepting = tokio::spawn(accept).abort_handle();
        Ok(Self { address, weather, traffic, accepting })
    }

    /// Returns where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many connections there have been.
    pub fn connections(&self) -> u64 {
        self.traffic.connections.load(Ordering::SeqCst)
    }

    /// Returns how many bytes have arrived at the server and at the clients.
    pub fn bytes(&self) -> (u64, u64) {
        let traffic = &self.traffic;
        (traffic.there.load(Ordering::SeqCst), traffic.back.load(Ordering::SeqCst))
    }
}

impl Link for Proxy {
    fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: String,
    weather: watch::Receiver<Weather>,
    traffic: Arc<Traffic>,
) {
    // Connections end with the proxy, so that no case leaves any behind.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *weather.borrow() == Weather::Down {
            reset(&client);
            continue;
        }
        traffic.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(connection(client, server.clone(), weather.clone(), traffic.clone()));
    }
}

async fn connection(
    mut client: TcpStream,
    server: String,
    mut weather: watch::Receiver<Weather>,
    traffic: Arc<Traffic>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = pump(from_client, to_server, &traffic.there, weather.clone(), Way::There);
    let back = pump(from_server, to_client, &traffic.back, weather.clone(), Way::Back);
    let ended = tokio::select! {
        ended = async { tokio::try_join!(there, back) } => ended.map(drop),
        _ = weather.wait_for(|weather| *weather == Weather::Down) => Err(Cut),
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Makes the end of the connection an abrupt one (RST).
fn reset(stream: &TcpStream) {
    // If it cannot be set the connection ends with FIN, which clients must bear too.
    let _ = stream.set_zero_linger();
}

/// The connection breaks.
struct Cut;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    There,
    Back,
}

impl Way {
    fn delay(self, weather: Weather) -> Duration {
        match (self, weather) {
            (Self::There, Weather::Slow { there, .. }) => there,
            (Self::Back, Weather::Slow { back, .. }) => back,
            _ => Duration::ZERO,
        }
    }
}

/// Carries one direction: each chunk has its own time of arrival, so delays do not add up.
async fn pump(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    arrived: &AtomicU64,
    weather: watch::Receiver<Weather>,
    way: Way,
) -> Result<(), Cut> {
    let (queue, due) = mpsc::channel(UNDER_WAY);
    let read = read(from, queue, weather.clone(), way);
    tokio::try_join!(read, write(due, to, arrived, weather)).map(drop)
}

async fn read(
    mut from: impl AsyncRead + Unpin,
    queue: mpsc::Sender<(BootInstant, Vec<u8>)>,
    weather: watch::Receiver<Weather>,
    way: Way,
) -> Result<(), Cut> {
    let clock = Clock::system();
    loop {
        let mut chunk = Vec::with_capacity(16 * 1024);
        if from.read_buf(&mut chunk).await.map_err(|_| Cut)? == 0 {
            return Ok(());
        }
        let weather = *weather.borrow();
        if weather == Weather::LosesReplies && way == Way::Back {
            return Err(Cut);
        }
        let due = clock.now() + way.delay(weather);
        queue.send((due, chunk)).await.map_err(|_| Cut)?;
    }
}

async fn write(
    mut due: mpsc::Receiver<(BootInstant, Vec<u8>)>,
    mut to: impl AsyncWrite + Unpin,
    arrived: &AtomicU64,
    mut weather: watch::Receiver<Weather>,
) -> Result<(), Cut> {
    while let Some((at, chunk)) = due.recv().await {
        Clock::system().sleep_until(at).await;
        weather.wait_for(|weather| *weather != Weather::Hangs).await.map_err(|_| Cut)?;
        to.write_all(&chunk).await.map_err(|_| Cut)?;
        arrived.fetch_add(chunk.len() as u64, Ordering::SeqCst);
    }
    to.shutdown().await.map_err(|_| Cut)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A server that sends back what it gets, and counts it.
    async fn echo() -> (String, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap().to_string(), Arc::default());
        let count: Arc<AtomicU64> = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        count.fetch_add(1, Ordering::SeqCst);
                        stream.write_all(&byte).await.unwrap();
                    }
                });
            }
        });
        (address, seen)
    }

    async fn bench() -> (Proxy, TcpStream, Arc<AtomicU64>) {
        let (server, seen) = echo().await;
        let proxy = Proxy::start(server).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        ping(&mut client).await.unwrap();
        (proxy, client, seen)
    }

    /// Sends a byte and waits for its echo.
    async fn ping(stream: &mut TcpStream) -> io::Result<Duration> {
        let start = Instant::now();
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await?;
        Ok(start.elapsed())
    }

    #[tokio::test]
    async fn fair_weather_forwards_and_counts() {
        let (proxy, mut client, _) = bench().await;
        ping(&mut client).await.unwrap();
        assert_eq!((proxy.connections(), proxy.bytes()), (1, (2, 2)));
    }

    #[tokio::test]
    async fn slow_weather_delays_each_way() {
        let (proxy, mut client, seen) = bench().await;
        proxy.set(Weather::Slow { there: ms(0), back: ms(200) });
        let late = timeout(ms(100), ping(&mut client)).await;
        assert!(late.is_err(), "{late:?}");
        assert_eq!(seen.load(Ordering::SeqCst), 2, "the request itself is not delayed");
        client.read_exact(&mut [0]).await.unwrap();
        proxy.set(Weather::Slow { there: ms(200), back: ms(0) });
        let late = timeout(ms(100), ping(&mut client)).await;
        assert!(late.is_err(), "{late:?}");
        assert_eq!(seen.load(Ordering::SeqCst), 2, "the request is still under way");
        client.read_exact(&mut [0]).await.unwrap();
    }

    #[tokio::test]
    async fn a_hanging_line_breaks_nothing_and_delivers_later() {
        let (proxy, mut client, seen) = bench().await;
        proxy.set(Weather::Hangs);
        assert!(timeout(ms(100), ping(&mut client)).await.is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 1);
        proxy.set(Weather::Fair);
        timeout(ms(2000), client.read_exact(&mut [0])).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_lost_reply_was_a_request_that_arrived() {
        let (proxy, mut client, seen) = bench().await;
        proxy.set(Weather::LosesReplies);
        assert!(timeout(ms(2000), ping(&mut client)).await.unwrap().is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn down_resets_and_refuses_until_it_is_fair_again() {
        let (proxy, mut client, _) = bench().await;
        proxy.set(Weather::Down);
        let error = timeout(ms(2000), client.read_exact(&mut [0])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        if let Ok(mut refused) = TcpStream::connect(proxy.address()).await {
            assert!(timeout(ms(2000), ping(&mut refused)).await.unwrap().is_err());
        }
        proxy.set(Weather::Fair);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        ping(&mut again).await.unwrap();
    }
}
