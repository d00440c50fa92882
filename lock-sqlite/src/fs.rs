//! Where the database lies: its real path, its identity, and whether the file system is local.
//!
//! Nothing here opens the database, its `-wal` or its `-shm`: closing any descriptor of them would
//! drop the locks that SQLite holds in this process.

use std::path::Path;
use std::path::PathBuf;

use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Result;

/// File systems whose byte-range locks and shared memory are the kernel's own, by `statfs` magic.
const LOCAL: [(u32, &str); 14] = [
    (0x0000_EF53, "ext2/ext3/ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x2FC1_2FC1, "zfs"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58F6, "ramfs"),
    (0x794C_7630, "overlayfs"),
    (0xF2F5_2010, "f2fs"),
    (0xCA45_1A4E, "bcachefs"),
    (0x3153_464A, "jfs"),
    (0x5265_4973, "reiserfs"),
    (0x0000_3434, "nilfs2"),
    (0x0000_4D44, "vfat"),
    (0x2011_BAB0, "exfat"),
];

/// The names of some that are refused, for the error.
const OTHERS: [(u32, &str); 15] = [
    (0x0000_6969, "nfs"),
    (0x0000_517B, "smb"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00C3_6400, "ceph"),
    (0x5346_414F, "afs"),
    (0x7375_7245, "coda"),
    (0x0116_1970, "gfs2"),
    (0x7461_636F, "ocfs2"),
    (0x0BD0_0BD0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x786F_4256, "vboxsf"),
    (0xBACB_ACBC, "vmhgfs"),
];

/// Tells a file from another that took its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// A database's place, checked.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The path without symbolic links, as SQLite makes its companions' names from it.
    pub(crate) path: PathBuf,
    /// Whether the file system is known to be local.
    pub(crate) local: bool,
}

impl Place {
    /// Finds the place of `path` and refuses one that locks are not safe on.
    pub(crate) fn find(path: &Path, any_filesystem: bool) -> Result<Self> {
        let path = real_path(path)?;
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        let stat = rustix::fs::statfs(directory)
            .map_err(|cause| missing(directory).with_source(std::io::Error::from(cause)))?;
        // The kernel's magic numbers have 32 bits; the field's width and sign differ by machine.
        let magic = (stat.f_type as u64 & 0xFFFF_FFFF) as u32;
        let local = is_local(magic);
        if !local && !any_filesystem {
            return Err(not_local(directory, magic));
        }
        Ok(Self { path, local })
    }

    /// Returns which file stands at the path now, by name only.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let stat = rustix::fs::stat(&self.path).ok()?;
        Some(Identity { device: stat.st_dev, inode: stat.st_ino })
    }

    /// Returns the path of a companion of the database.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

/// Two processes that come by different links must agree on the companions' names.
fn real_path(path: &Path) -> Result<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        if real.is_dir() {
            return Err(config(format!("{} is a directory, name a file in it", real.display())));
        }
        return Ok(real);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let directory = parent.canonicalize().map_err(|cause| missing(parent).with_source(cause))?;
    let name = path.file_name().ok_or_else(|| config("the path names no file".into()))?;
    Ok(directory.join(name))
}

fn is_local(magic: u32) -> bool {
    LOCAL.iter().any(|(known, _)| *known == magic)
}

fn name_of(magic: u32) -> String {
    let known = LOCAL.iter().chain(&OTHERS).find(|(known, _)| *known == magic);
    known.map_or_else(|| format!("of type {magic:#x}"), |(_, name)| (*name).to_owned())
}

fn not_local(directory: &Path, magic: u32) -> Error {
    config(format!(
        "the file system of {} is {}, which is not known to be local, so locks in SQLite are not \
         safe there: use a local directory, or ?unsafe_filesystem=allow if you know better",
        directory.display(),
        name_of(magic)
    ))
}

fn missing(directory: &Path) -> Error {
    config(format!("cannot use the directory {}: create it first", directory.display()))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused_by_name() {
        for (magic, name) in OTHERS {
            assert!(!is_local(magic), "{name}");
            let error = not_local(Path::new("/mnt"), magic);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("/mnt is {name}")));
            assert!(error.to_string().contains("?unsafe_filesystem=allow"));
        }
    }

    #[test]
    fn an_unknown_file_system_is_refused_by_number() {
        assert!(!is_local(0xABCD));
        assert!(not_local(Path::new("/mnt"), 0xABCD).to_string().contains("0xabcd"));
    }

    #[test]
    fn local_file_systems_are_taken() {
        for magic in [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0x794C_7630] {
            assert!(is_local(magic), "{}", name_of(magic));
        }
    }

    #[test]
    fn proc_is_no_place_for_a_database() {
        let error = Place::find(Path::new("/proc/locks.db"), false).unwrap_err();
        assert!(error.to_string().contains("not known to be local"), "{error}");
        assert!(!Place::find(Path::new("/proc/locks.db"), true).unwrap().local);
    }

    #[test]
    fn a_missing_directory_says_so() {
        let error = Place::find(Path::new("/no/such/dir/locks.db"), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("/no/such/dir: create it first"), "{error}");
    }

    #[test]
    fn a_directory_is_no_database() {
        let error = Place::find(Path::new("/tmp"), false).unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
    }
}
