//! What cargo says of the workspace, and the crate outside it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::Failure;
use crate::Result;
use crate::process::cargo;

/// A backend as a stranger would write it.
const THIRD_PARTY: &str = "examples/third-party";

/// The output of `cargo metadata`.
pub(crate) struct Workspace(Value);

impl Workspace {
    pub(crate) fn read() -> Result<Self> {
        let output = cargo(&["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()?;
        let read = serde_json::from_slice(&output.stdout);
        read.map(Self).map_err(|error| Failure(format!("cargo metadata: {error}")))
    }

    /// The features of the facade.
    pub(crate) fn features(&self) -> Result<Vec<String>> {
        let packages = self.0["packages"].as_array().into_iter().flatten();
        let facade = packages.into_iter().find(|package| package["name"] == "lock");
        let features = facade.and_then(|package| package["features"].as_object());
        let features = features.ok_or_else(|| lacks("package lock"))?;
        Ok(features.keys().filter(|name| *name != "default").cloned().collect())
    }

    /// Cargo at work on the crate outside the workspace.
    pub(crate) fn third_party(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = cargo(arguments);
        command.current_dir(Path::new(self.text("workspace_root")?).join(THIRD_PARTY));
        // With the workspace's folder and its profile, little is built twice.
        command.env("CARGO_TARGET_DIR", self.text("target_directory")?);
        command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        Ok(command)
    }

    /// A folder of its own within the one for what is built.
    pub(crate) fn target(&self, name: &str) -> Result<PathBuf> {
        Ok(Path::new(self.text("target_directory")?).join(name))
    }

    fn text(&self, field: &str) -> Result<&str> {
        self.0[field].as_str().ok_or_else(|| lacks(field))
    }
}

fn lacks(what: &str) -> Failure {
    Failure(format!("cargo metadata has no {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_features_of_the_facade() {
        let features = Workspace::read().unwrap().features().unwrap();
        assert!(features.iter().any(|feature| feature == "sqlite"), "{features:?}");
        assert!(!features.iter().any(|feature| feature == "default"), "{features:?}");
    }

    #[test]
    fn finds_the_crate_outside_the_workspace() {
        let command = Workspace::read().unwrap().third_party(&["test"]).unwrap();
        assert!(command.get_current_dir().unwrap().join("Cargo.toml").is_file());
    }
}
