//! Prints the spans of lock calls as OpenTelemetry exports them: `cargo run -p lock --example opentelemetry`.
//!
//! For a collector, put its exporter in the place of the one that prints.

use std::error::Error;

use lock::LockOptions;
use lock::LockProviderExt as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exporter = opentelemetry_stdout::SpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    tracing_subscriber::registry().with(spans).init();

    let url = std::env::var("LOCK_URL").unwrap_or_else(|_| "memory:".to_owned());
    let locks = lock::connect(&url).await?;
    let sold = locks
        .with_lock("sku:123", &LockOptions::new().owner("replica 1"), async |hold| {
            println!("selling under fence {}", hold.fence());
            Ok::<_, lock::Error>(1)
        })
        .await?;
    println!("sold {sold}");
    provider.shutdown()?;
    Ok(())
}
