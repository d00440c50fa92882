//! Which store, and who we are.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;

use lock::Config;
use lock::ConnectUrl;
use lock::Io;
use lock::Owner;
use rustix::process::Pid;
use rustix::process::getuid;
use rustix::system::uname;

use crate::args::Global;
use crate::exit::Outcome;

/// Merges flags over the environment over the file, and falls back to the user's own SQLite file.
pub(crate) fn config(global: &Global) -> Result<Config, Outcome> {
    let mut config = match &global.url {
        Some(url) => Config::of_url(url)?,
        None => Config::default(),
    };
    config = config.over(Config::from_env()?);
    if let Some(file) = &global.config {
        config = config.over(Config::from_file(file)?);
    }
    if config.url.is_none() && config.provider.is_none() {
        config.url = Some(default_url()?);
    }
    if config.url.as_ref().is_none_or(|url| url.text("io").is_none()) {
        // A terminal that takes no output may block us, but must not lose the lock.
        config.io = config.io.or(Some(Io::Thread));
    }
    Ok(config)
}

/// Returns the URL that a command gets to see: it leads to the same locks, and has no password.
pub(crate) fn open_url(config: &Config) -> Option<ConnectUrl> {
    config.place().ok()
}

/// Returns `user@host:pid`.
pub(crate) fn default_owner(process: Pid) -> String {
    let host = uname().nodename().to_string_lossy().into_owned();
    format!("{}@{host}:{}", user(), process.as_raw_nonzero())
}

fn user() -> String {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
    // An owner has to fit into its 255 bytes together with host and process.
    let fits = |user: &String| Owner::new(user).is_ok() && user.len() < 100;
    named
        .or_else(registered_name)
        .filter(fits)
        .unwrap_or_else(|| format!("uid{}", getuid().as_raw()))
}

/// Cron and service managers often set neither variable, but the user has a name all the same.
fn registered_name() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
    Some(user.name)
}

fn default_url() -> Result<ConnectUrl, Outcome> {
    let folder = state_folder().ok_or_else(|| {
        Outcome::config("there is no home directory for the locks: give --url or set LOCK_URL")
    })?;
    let folder = folder.join("lockctl");
    create(&folder)?;
    let path = folder.join("locks.db");
    let path = path.to_str().ok_or_else(|| {
        Outcome::config("the state directory's name is not UTF-8: give --url or set LOCK_URL")
    })?;
    Ok(ConnectUrl::of_path("sqlite", path)?)
}

/// Relative paths are to be ignored, says the XDG base directory specification.
fn state_folder() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

fn create(folder: &Path) -> Result<(), Outcome> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| {
        Outcome::config(format!(
            "cannot create {} for the locks: {error}; give --url or set LOCK_URL",
            folder.display()
        ))
    })
}
