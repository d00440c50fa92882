//! The scheduler's configuration file.

use std::path::Path;
use std::time::Duration;

use config::FileFormat;
use serde::Deserialize;

use crate::story::Result;

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) scheduler: Scheduler,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scheduler {
    pub(super) distributed_lock: DistributedLock,
    #[serde(default)]
    pub(super) options: Options,
}

/// Whether instances exclude each other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DistributedLock {
    pub(super) enabled: bool,
}

/// How they do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    /// Stands before the name of each job.
    pub(super) key_prefix: String,
    /// For how many seconds a job stays locked when its instance is heard of no more.
    pub(super) lock_duration: u64,
    /// How often a request to the store is repeated that failed.
    pub(super) max_retries: u32,
    /// How many milliseconds apart.
    pub(super) retry_delay: u64,
    /// For how many milliseconds after its tick a job stays locked at the least, however short it is: more than twice what
    /// clocks differ by, and less than what two ticks are apart.
    pub(super) min_hold: u64,
}

impl Default for Options {
    fn default() -> Self {
        let key_prefix = "scheduler:".to_owned();
        Self { key_prefix, lock_duration: 60, max_retries: 3, retry_delay: 100, min_hold: 1600 }
    }
}

impl Options {
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_secs(self.lock_duration)
    }

    pub(super) fn min_hold(&self) -> Duration {
        Duration::from_millis(self.min_hold)
    }
}

/// Reads a YAML file.
pub(super) fn read(path: &Path) -> Result<File> {
    parse(&std::fs::read_to_string(path)?)
}

fn parse(text: &str) -> Result<File> {
    let file = config::File::from_str(text, FileFormat::Yaml);
    Ok(config::Config::builder().add_source(file).build()?.try_deserialize()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word for word as its users have it.
    const PRINTED: &str = r#"
scheduler:
  distributed_lock:
    enabled: true
  options:
    key_prefix: "myapp_scheduler:"
    lock_duration: 60      # seconds
    max_retries: 5
    retry_delay: 200       # milliseconds
"#;

    #[test]
    fn the_usual_file_is_read_as_it_is() {
        let File { scheduler } = parse(PRINTED).unwrap();
        assert!(scheduler.distributed_lock.enabled);
        let Options { key_prefix, max_retries, retry_delay, .. } = &scheduler.options;
        assert_eq!((key_prefix.as_str(), *max_retries, *retry_delay), ("myapp_scheduler:", 5, 200));
        assert_eq!(scheduler.options.ttl(), Duration::from_secs(60));
    }

    #[test]
    fn what_is_unknown_is_refused_and_what_is_missing_has_a_default() {
        let least = "scheduler: { distributed_lock: { enabled: false } }";
        assert_eq!(parse(least).unwrap().scheduler.options, Options::default());
        let typo = parse(&PRINTED.replace("max_retries", "max_retires")).unwrap_err();
        assert!(typo.to_string().contains("max_retires"), "{typo}");
        assert!(parse("scheduler: {}").is_err());
    }
}
