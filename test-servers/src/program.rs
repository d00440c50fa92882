//! What has to be installed.

use std::path::PathBuf;

/// A program of the operating system, and what must be there with it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    name: &'static str,
    beside: Option<&'static str>,
    packages: &'static [&'static str],
}

impl Program {
    /// Describes a program that Debian's `packages` bring.
    #[must_use]
    pub const fn new(name: &'static str, packages: &'static [&'static str]) -> Self {
        Self { name, beside: None, packages }
    }

    /// Has a file be there too, seen from the program's folder.
    #[must_use]
    pub const fn beside(self, file: &'static str) -> Self {
        Self { beside: Some(file), ..self }
    }

    /// Returns the Debian packages that bring it.
    #[must_use]
    pub const fn packages(&self) -> &'static [&'static str] {
        self.packages
    }

    /// Finds it, with what must be beside it.
    #[must_use]
    pub fn find(&self) -> Option<PathBuf> {
        let program = find(self.name)?;
        let there = |file| program.parent().is_some_and(|folder| folder.join(file).is_file());
        self.beside.is_none_or(there).then_some(program)
    }

    /// Says what of it is not installed.
    #[must_use]
    pub fn lack(&self) -> String {
        let beside = self.beside.filter(|_| find(self.name).is_some());
        format!("{} is not installed", beside.unwrap_or(self.name))
    }
}

/// Finds a program on the path, or where Debian keeps those of Postgres.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(postgres_folders())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The newest version first.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    versions.iter().map(|version| version.join("bin")).collect()
}
