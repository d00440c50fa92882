//! The order service under faults: instances are killed and frozen, servers of the locks stopped; then the stock is audited.

use std::time::Duration;

use super::Patience;
use super::audit::audit;
use super::customers::Market;
use super::customers::sku;
use super::shops::Shops;
use super::store;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;
use crate::story::ms;
use crate::story::pause;

/// A run under faults.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Storm {
    /// How long customers order while things fail
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many instances sell
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) instances: u64,
    /// How many customers order at a time
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..))]
    customers: u64,
    /// How much there is of each of the articles
    #[arg(long, default_value_t = 500)]
    pub(super) stock: i64,
    /// How many articles there are
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    articles: u64,
    /// Where the locks are, by name or URL; five servers of our own with Redlock unless set, which fail as well
    #[arg(long, value_name = "STORE")]
    pub(super) locks: Option<String>,
    /// Where the stock is: postgres://… or sqlite:PATH; a Postgres of our own unless set
    #[arg(long, value_name = "URL")]
    pub(super) db: Option<String>,
    #[command(flatten)]
    pub(super) patience: Patience,
    /// Sell without locks, and see what comes of it
    #[arg(long)]
    pub(super) without_locks: bool,
}

pub(super) async fn run(options: &Storm, servers: &mut Servers) -> Result {
    let story = Story::begin("Orders: one stock, several instances, and faults");
    let mut shops = Shops::open(options, servers).await?;
    story.tell("locks", &shops.locks);
    let skus = usize::try_from(options.articles)?;
    let db = store::open(&shops.db).await?;
    db.fill(&(0..skus).map(|at| (sku(at), options.stock)).collect::<Vec<_>>()).await?;

    let market = Market::new(skus, shops.addresses());
    let mut customers = market.open(options.customers);
    let faults = shops.hurt(&story, &market, Duration::from_secs(options.seconds)).await?;
    let during = market.told().confirmed.len();
    story.tell("all", "is well again, for two seconds");
    pause(ms(2000)).await;
    market.close();
    while let Some(left) = customers.join_next().await {
        left?;
    }
    let (stock, orders) = (db.audit().await?, db.orders().await?);
    story.part(format!("What came of {faults} faults:"));
    let told = market.told();
    audit(&story, options.stock, &stock, &orders, &told)?;
    let calm = told.confirmed.len() - during;
    let all_sold = stock.iter().all(|article| article.left <= 0);
    story.check(during > 0, "orders were sold while things failed")?;
    story.check(calm > 0 || all_sold, "and are when all is well")
}
