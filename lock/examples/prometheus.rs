//! Contends for a lock and serves what it measures to Prometheus: `cargo run -p lock --example prometheus`.
//!
//! Over `LOCK_URL`, or memory, until ctrl-c, on port 9898 or the one that is its argument. Start several to see how
//! they share a store.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use lock::LockOptions;
use lock::LockProvider;
use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// In seconds: a quick store answers within a millisecond, a patient caller waits for minutes.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let builder = PrometheusBuilder::new();
    let metrics = builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;

    // After the recorder: a provider reports to the one that it finds.
    let url = std::env::var("LOCK_URL").unwrap_or_else(|_| "memory:".to_owned());
    let locks = lock::connect(&url).await?;
    for worker in 0..4 {
        tokio::spawn(work(locks.clone(), worker));
    }

    let port: u16 = std::env::args().nth(1).map_or(Ok(9898), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("metrics are at http://{}/metrics", listener.local_addr()?);
    tokio::select! {
        served = serve(listener, metrics) => served?,
        signal = tokio::signal::ctrl_c() => signal?,
    }
    locks.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

/// Works under the lock for a while, again and again.
async fn work(locks: Arc<dyn LockProvider>, worker: u64) {
    let options = LockOptions::new().wait(Duration::from_millis(400));
    loop {
        match locks.lock("demo:stock", &options).await {
            Ok(guard) => {
                sleep(Duration::from_millis(40 + 30 * worker)).await;
                drop(guard);
            }
            Err(error) => println!("worker {worker}: {error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn serve(listener: TcpListener, metrics: PrometheusHandle) -> std::io::Result<()> {
    loop {
        let (mut scraper, _) = listener.accept().await?;
        let _request = scraper.read(&mut [0; 4096]).await?;
        let body = metrics.render();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        scraper.write_all(answer.as_bytes()).await?;
    }
}
