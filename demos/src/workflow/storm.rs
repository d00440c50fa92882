//! Several replicas under faults: killed, frozen, and cut off from the store; no execution runs twice at a time or finishes twice.

use super::crew::Crew;
use crate::servers::Servers;
use crate::story::Result;
use crate::story::Story;

/// A run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Storm {
    /// How many executions
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    executions: u64,
    /// How many replicas
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    replicas: u64,
    /// Only this store, by name or URL; MySQL and then Redis unless set
    #[arg(long, value_name = "STORE")]
    locks: Option<String>,
}

pub(super) async fn run(storm: &Storm, servers: &mut Servers) -> Result {
    let story = Story::begin("Workflows: each execution on one of several replicas");
    let stores = match &storm.locks {
        Some(name) => vec![name.as_str()],
        None => vec!["mysql", "redis"],
    };
    for name in stores {
        let url = servers.store(name).await?;
        story.part(format!("{} replicas on {name}:", storm.replicas));
        let folder = tempfile::Builder::new().prefix("demos-").tempdir()?;
        let mut crew = Crew::open(&url, folder.path(), storm.replicas).await?;
        let ids: Vec<_> = (1..=storm.executions).map(|number| format!("work_{number}")).collect();
        crew.deliver_all(&story, &ids).await?;
        story.part(format!("What came of {} faults:", crew.faults));
        crew.heard.judge(&story, ids.len())?;
    }
    Ok(())
}
