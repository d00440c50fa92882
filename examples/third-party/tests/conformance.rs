//! Holds the store to the promises of the framework.

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

    async fn connect(&self, _namespace: &str) -> Result<SharedBackend> {
        Ok(Arc::new(JsonFile::open(self.0.path())))
    }
}

fn main() -> ExitCode {
    let directory = TempDir::new().expect("the machine has a directory for temporary files");
    conformance_tests::run(vec![Arc::new(Directory(directory))])
}
