//! What cargo says of the workspace, and the crate outside it.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::Failure;
use crate::Result;
use crate::need::not_to_be_built;
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

    /// The features of the facade that can be built.
    pub(crate) fn features(&self) -> Result<Vec<String>> {
        let facade = self.packages().find(|package| package["name"] == "lock");
        let facade = facade.ok_or_else(|| lacks("package lock"))?;
        let missing: Vec<_> = not_to_be_built().collect();
        let features = features(facade, &missing).filter(|name| *name != "default");
        Ok(features.map(str::to_owned).collect())
    }

    /// Arguments by which cargo takes all packages, with all features, but for what cannot be built.
    pub(crate) fn everything(&self) -> Vec<String> {
        let missing: Vec<_> = not_to_be_built().collect();
        self.all_but(&missing)
    }

    fn all_but(&self, missing: &[&str]) -> Vec<String> {
        let mut arguments = vec!["--workspace".to_owned()];
        if missing.is_empty() {
            arguments.push("--all-features".to_owned());
            return arguments;
        }
        arguments.extend(missing.iter().map(|name| format!("--exclude={name}")));
        for package in self.packages() {
            let Some(name) = package["name"].as_str().filter(|name| !missing.contains(name)) else {
                continue;
            };
            let features = features(package, missing);
            arguments.extend(features.map(|feature| format!("--features={name}/{feature}")));
        }
        arguments
    }

    fn packages(&self) -> impl Iterator<Item = &Value> {
        self.0["packages"].as_array().into_iter().flatten()
    }

    /// The packages that are published.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Value> {
        // `publish` is a list of the registries that are allowed, and none of it allows all.
        self.packages().filter(|package| package["publish"].is_null())
    }

    /// The names of the published libraries that can be built.
    pub(crate) fn libraries(&self) -> Vec<String> {
        let missing: Vec<_> = not_to_be_built().collect();
        let is_library = |target: &Value| target["kind"][0] == "lib";
        let has_library =
            |package: &&Value| package["targets"].as_array().into_iter().flatten().any(is_library);
        let names = self.published().filter(has_library).filter_map(|it| it["name"].as_str());
        names.filter(|name| !missing.contains(name)).map(str::to_owned).collect()
    }

    pub(crate) fn root(&self) -> Result<&Path> {
        Ok(Path::new(self.text("workspace_root")?))
    }

    /// Cargo at work on the crate outside the workspace.
    pub(crate) fn third_party(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = cargo(arguments);
        command.current_dir(self.root()?.join(THIRD_PARTY));
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

/// The features of a package that need none of the crates that are missing. What takes a backend in has
/// its name, and is passed on under its name.
fn features<'a>(package: &'a Value, missing: &[&str]) -> impl Iterator<Item = &'a str> {
    let backends = missing.iter().map(|name| name.trim_start_matches("lock-"));
    let backends: Vec<String> = backends.map(str::to_owned).collect();
    let needs = move |name: &str| {
        let name = name.rsplit('/').next().unwrap_or(name);
        backends.iter().any(|backend| backend == name)
    };
    let features = package["features"].as_object().into_iter().flatten();
    let left = features.filter(move |(name, enables)| {
        let mut enables = enables.as_array().into_iter().flatten().filter_map(Value::as_str);
        !needs(name) && !enables.any(&needs)
    });
    left.map(|(name, _)| name.as_str())
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
    fn leaves_out_what_cannot_be_built_and_who_needs_it() {
        let workspace = Workspace::read().unwrap();
        assert_eq!(workspace.all_but(&[]), ["--workspace", "--all-features"]);
        let rest = workspace.all_but(&["lock-etcd"]);
        let has = |argument: &str| rest.iter().any(|it| it == argument);
        assert!(has("--exclude=lock-etcd") && has("--features=lock/mysql"), "{rest:?}");
        for out in ["lock/etcd", "lockctl/etcd", "lockctl/full"] {
            assert!(!has(&format!("--features={out}")), "{rest:?}");
        }
    }

    #[test]
    fn finds_the_crate_outside_the_workspace() {
        let command = Workspace::read().unwrap().third_party(&["test"]).unwrap();
        assert!(command.get_current_dir().unwrap().join("Cargo.toml").is_file());
    }
}
