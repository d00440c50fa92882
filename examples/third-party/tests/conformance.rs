//! Holds the store to the promises of the framework.

use std::fs::create_dir_all;
use std::process::ExitCode;
use std::sync::Arc;

use conformance_tests::Fixture;
use conformance_tests::async_trait;
use lock_core::Result;
use lock_core::SharedBackend;
use lock_jsonfile::JsonFile;
use tempfile::TempDir;

struct Directory(TempDir);

#[async_trait]
impl Fixture for Directory {
    fn name(&self) -> &str {
        "jsonfile"
    }

    async fn connect(&self, namespace: &str) -> Result<SharedBackend> {
        // A directory for each case: they would wait for each other's steps in one file.
        let directory = self.0.path().join(namespace);
        create_dir_all(&directory).expect("a temporary directory can have more in it");
        Ok(Arc::new(JsonFile::open(directory)))
    }
}

fn main() -> ExitCode {
    let directory = TempDir::new().expect("the machine has a directory for temporary files");
    conformance_tests::run(vec![Arc::new(Directory(directory))])
}
