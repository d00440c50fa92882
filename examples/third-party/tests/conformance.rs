//! Holds the store to the promises of the framework.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use conformance_tests::Fault;
use conformance_tests::Fixture;
use conformance_tests::Probe;
use conformance_tests::Unsupported;
use conformance_tests::async_trait;
use lock_core::LockKey;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_jsonfile::JsonFile;
use tempfile::TempDir;

/// Tells other processes of the same run where the locks are.
const DIRECTORY: &str = "JSONFILE_DIRECTORY";

struct Directory(PathBuf);

impl Directory {
    /// A directory for each case: in one file they would all wait for each other's steps.
    fn of(&self, namespace: &str) -> PathBuf {
        let directory = self.0.join(namespace);
        fs::create_dir_all(&directory).expect("a temporary directory can have more in it");
        directory
    }

    fn files(&self, namespace: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.of(namespace)).expect("it is there");
        let paths = entries.map(|entry| entry.expect("nobody removes files").path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
    }
}

#[async_trait]
impl Fixture for Directory {
    fn name(&self) -> &str {
        "jsonfile"
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(JsonFile::open(&self.of(namespace))?))
    }

    fn environment(&self) -> Option<Vec<(String, String)>> {
        Some(vec![(DIRECTORY.to_owned(), self.0.display().to_string())])
    }

    async fn probe(&self, namespace: &str, key: &LockKey) -> Option<Probe> {
        let text = fs::read_to_string(self.files(namespace).first()?).ok()?;
        let locks: serde_json::Value = serde_json::from_str(&text).ok()?;
        let token = locks.get(key.as_str())?.get("token")?.as_str();
        Some(Probe { locked: token.is_some(), token: token.and_then(|token| token.parse().ok()) })
    }

    async fn fault(&self, namespace: &str, fault: Fault) -> Result<(), Unsupported> {
        match fault {
            Fault::Forget => {
                self.files(namespace).iter().for_each(|file| drop(fs::remove_file(file)));
                Ok(())
            }
            _ => Err(Unsupported("there is one file for all locks, and no server")),
        }
    }
}

fn main() -> ExitCode {
    let temporary = TempDir::new().expect("the machine has a directory for temporary files");
    let path = env::var_os(DIRECTORY).map_or(temporary.path().to_owned(), PathBuf::from);
    conformance_tests::run(vec![Arc::new(Directory(path))])
}
