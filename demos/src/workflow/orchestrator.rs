//! Runs an execution on one replica, whatever store its locks are in.

use std::sync::Arc;

use lock::Config;
use lock::ErrorKind;
use lock::Hold;
use lock::LockGuard;
use lock::LockOptions;
use lock::LockProvider;
use lock::Wait;

use super::journal::Journal;

/// Why a replica did not run an execution to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum WorkflowError {
    /// This is how it should be with several replicas.
    #[error("workflow {id} is already running at {holder}")]
    AlreadyRunning { id: String, holder: String },
    /// The retries of the configuration were not enough.
    #[error("no lock on workflow {id} within the time allowed")]
    LockTimeout { id: String, source: lock::Error },
    /// It was stopped in time: another replica may run it now.
    #[error("workflow {id} was stopped: its lock was lost")]
    Lost { id: String },
    #[error("the locks cannot be reached")]
    Unreachable(#[source] lock::Error),
    #[error("the journal cannot be written")]
    Journal(#[from] std::io::Error),
}

/// What a replica has done with an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Execution {
    Finished,
    /// Some replica has finished it before.
    FinishedBefore,
}

/// A replica's way to run executions.
#[derive(Clone, Debug)]
pub(super) struct Orchestrator {
    locks: Arc<dyn LockProvider>,
    options: LockOptions,
    journal: Journal,
}

impl Orchestrator {
    /// Connects as configured. Without a number of retries nobody waits for a workflow that is running.
    pub(super) async fn open(config: &Config, journal: Journal) -> lock::Result<Self> {
        let options = match config.default_retry_count {
            None => LockOptions::new().wait(Wait::Never),
            Some(_) => LockOptions::new(),
        };
        Ok(Self { locks: config.connect().await?, options, journal })
    }

    /// Runs the execution if no other replica does, and nobody has.
    pub(super) async fn execute(
        &self,
        id: &str,
        steps: impl AsyncFnOnce(&Hold),
    ) -> Result<Execution, WorkflowError> {
        let guard = self.lock(id).await?;
        if self.journal.is_finished(id) {
            // What the release says changes nothing.
            let _ = guard.unlock().await;
            return Ok(Execution::FinishedBefore);
        }
        tokio::select! {
            biased;
            _ = guard.lost() => return Err(WorkflowError::Lost { id: id.to_owned() }),
            () = steps(&guard) => {}
        }
        guard.check().map_err(|_| WorkflowError::Lost { id: id.to_owned() })?;
        self.journal.finish(id, guard.fence())?;
        let _ = guard.unlock().await;
        Ok(Execution::Finished)
    }

    async fn lock(&self, id: &str) -> Result<LockGuard, WorkflowError> {
        let key = format!("workflow_execution:{id}");
        let id = || id.to_owned();
        self.locks.lock(&key, &self.options).await.map_err(|error| match error.kind() {
            ErrorKind::Held => {
                let holder = error.holders().first().map(ToString::to_string).unwrap_or_default();
                WorkflowError::AlreadyRunning { id: id(), holder }
            }
            ErrorKind::Timeout => WorkflowError::LockTimeout { id: id(), source: error },
            _ => WorkflowError::Unreachable(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::story::ms;
    use crate::story::pause;

    /// Replicas of a test, with no server anywhere.
    async fn replicas(more: &str, folder: &std::path::Path) -> [Orchestrator; 2] {
        let url = format!("memory:{}", folder.display().to_string().replace('/', "."));
        let config = Config::parse(&format!("provider: memory\nurl: '{url}'\n{more}"), "yaml");
        let (config, journal) = (config.unwrap(), Journal::open(folder.to_owned()).unwrap());
        let open = async || Orchestrator::open(&config, journal.clone()).await.unwrap();
        [open().await, open().await]
    }

    #[test]
    fn the_usual_configuration_is_read_as_it_is() {
        let yaml = "provider: mysql\ndefault_ttl: 10m\ndefault_retry_count: 5\n\
                    default_retry_delay: 2s\nmysql:\n  table_name: my_custom_locks\n";
        let json = r#"{ "provider": "mysql", "default_ttl": "10m", "default_retry_count": 5,
            "default_retry_delay": "2s", "mysql": { "table_name": "my_custom_locks" } }"#;
        let config = Config::parse(yaml, "yaml").unwrap();
        assert_eq!(config, Config::parse(json, "json").unwrap());
        let times = (config.default_ttl, config.default_retry_delay);
        assert_eq!(times, (Some(ms(600_000)), Some(ms(2000))));
        assert_eq!(config.default_retry_count, Some(5));
        assert_eq!(config.sections["mysql"].values["table_name"], "my_custom_locks");
    }

    #[tokio::test]
    async fn one_replica_runs_and_the_other_skips() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = replicas("", folder.path()).await;
        let (ran, skipped) =
            tokio::join!(one.execute("work_123", async |_| pause(ms(100)).await), async {
                pause(ms(20)).await;
                two.execute("work_123", async |_| panic!("it runs elsewhere")).await
            },);
        assert_eq!(ran.unwrap(), Execution::Finished);
        let error = skipped.unwrap_err();
        assert!(matches!(error, WorkflowError::AlreadyRunning { .. }), "{error}");
        assert!(error.to_string().contains(", fence "), "{error}");
        let again = two.execute("work_123", async |_| panic!("it has run")).await;
        assert_eq!(again.unwrap(), Execution::FinishedBefore);
    }

    #[tokio::test]
    async fn retries_that_were_not_enough_are_a_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let more = "default_ttl: 10m\ndefault_retry_count: 2\ndefault_retry_delay: 50ms";
        let [one, two] = replicas(more, folder.path()).await;
        let (ran, late) =
            tokio::join!(one.execute("work_1", async |_| pause(ms(500)).await), async {
                pause(ms(20)).await;
                let begun = Instant::now();
                let late = two.execute("work_1", async |_| panic!("it runs elsewhere")).await;
                (late, begun.elapsed())
            },);
        assert_eq!(ran.unwrap(), Execution::Finished);
        assert!(matches!(late.0, Err(WorkflowError::LockTimeout { .. })), "{:?}", late.0);
        assert!((ms(90)..ms(400)).contains(&late.1), "{:?}", late.1);
    }

    #[tokio::test]
    async fn who_waits_finds_it_finished() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = replicas("default_retry_count: 50", folder.path()).await;
        let (ran, waited) =
            tokio::join!(one.execute("work_2", async |_| pause(ms(100)).await), async {
                pause(ms(20)).await;
                two.execute("work_2", async |_| panic!("it has run")).await
            },);
        let both = (ran.unwrap(), waited.unwrap());
        assert_eq!(both, (Execution::Finished, Execution::FinishedBefore));
    }
}
