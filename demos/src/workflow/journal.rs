//! Which executions have finished, in a folder that all replicas share.

use std::fs::File;
use std::io;
use std::io::Write as _;
use std::path::PathBuf;

use lock::Fence;

/// A file for each execution that has finished.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    folder: PathBuf,
}

impl Journal {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    pub(super) fn is_finished(&self, id: &str) -> bool {
        self.folder.join(id).exists()
    }

    /// Notes that an execution has finished; refused if somebody else has done so.
    pub(super) fn finish(&self, id: &str, fence: Fence) -> io::Result<()> {
        let mut file = File::create_new(self.folder.join(id))?;
        writeln!(file, "{fence}")
    }
}
