//! Which backends there are, which are compiled in, and what to say of the others.

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Result;
use lock_core::nearest;

use crate::config::refused;

/// The drivers that are compiled in.
pub const DRIVERS: &[Driver] = &[
    #[cfg(feature = "memory")]
    lock_memory::DRIVER,
    #[cfg(feature = "sqlite")]
    lock_sqlite::DRIVER,
    #[cfg(feature = "redis")]
    lock_redis::DRIVER,
    #[cfg(feature = "redis")]
    lock_redis::REDLOCK,
];

/// A backend that this or a later version can have.
pub(crate) struct Backend {
    /// Its name as provider and section.
    pub(crate) name: &'static str,
    schemes: &'static [&'static str],
    /// What compiles it in, if this version can.
    feature: Option<&'static str>,
}

pub(crate) const BACKENDS: &[Backend] = &[
    Backend { name: "memory", schemes: &["memory"], feature: Some("memory") },
    Backend { name: "sqlite", schemes: &["sqlite"], feature: Some("sqlite") },
    Backend {
        name: "redis",
        schemes: &["redis", "rediss", "redis+sentinel", "redis+cluster"],
        feature: Some("redis"),
    },
    Backend { name: "redlock", schemes: &["redlock"], feature: Some("redis") },
    Backend { name: "mysql", schemes: &["mysql", "mariadb"], feature: None },
    Backend { name: "postgres", schemes: &["postgres", "postgresql"], feature: None },
    Backend { name: "etcd", schemes: &["etcd", "etcds"], feature: None },
    Backend { name: "zookeeper", schemes: &["zookeeper"], feature: None },
];

/// Finds the driver for a URL.
pub(crate) fn of_url(url: &ConnectUrl, drivers: &'static [Driver]) -> Result<&'static Driver> {
    let scheme = url.scheme();
    if let Some(driver) = drivers.iter().find(|driver| driver.schemes.contains(&scheme)) {
        return Ok(driver);
    }
    if let Some(backend) = BACKENDS.iter().find(|backend| backend.schemes.contains(&scheme)) {
        return Err(backend.missing(drivers));
    }
    let known = BACKENDS.iter().flat_map(|backend| backend.schemes.iter().copied());
    Err(unknown("URL scheme", scheme, known, drivers))
}

/// Finds the driver that a configuration names as its provider.
pub(crate) fn of_provider(name: &str, drivers: &'static [Driver]) -> Result<&'static Driver> {
    if let Some(driver) = drivers.iter().find(|driver| driver.name == name) {
        return Ok(driver);
    }
    match BACKENDS.iter().find(|backend| backend.name == name) {
        Some(backend) => Err(backend.missing(drivers)),
        None => {
            Err(unknown("provider", name, BACKENDS.iter().map(|backend| backend.name), drivers))
        }
    }
}

impl Backend {
    fn missing(&self, drivers: &[Driver]) -> lock_core::Error {
        let name = self.name;
        if let Some(feature) = self.feature {
            return refused(format!(
                "backend {name} is not compiled in: enable feature {feature:?} of crate lock"
            ));
        }
        let compiled = names(drivers);
        refused(format!(
            "this version has no backend {name} and no feature for it yet (compiled in: {compiled})"
        ))
    }
}

fn unknown<'a>(
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'a str>,
    drivers: &[Driver],
) -> lock_core::Error {
    let hint =
        nearest(word, known).map(|name| format!(", did you mean {name:?}?")).unwrap_or_default();
    refused(format!("unknown {what} {word:?}{hint} (compiled in: {})", names(drivers)))
}

fn names(drivers: &[Driver]) -> String {
    match drivers {
        [] => "nothing".to_owned(),
        _ => drivers.iter().map(|driver| driver.name).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_is_not_compiled_in_is_refused_as_its_scheme_is() {
        let url = ConnectUrl::parse("sqlite:x.db").unwrap();
        let by_url = of_url(&url, &[]).unwrap_err().to_string();
        assert_eq!(of_provider("sqlite", &[]).unwrap_err().to_string(), by_url);
    }

    #[test]
    fn every_driver_is_in_the_list_of_backends() {
        for driver in DRIVERS {
            let backend = BACKENDS.iter().find(|backend| backend.name == driver.name);
            let backend = backend.unwrap_or_else(|| panic!("{} is missing", driver.name));
            assert!(backend.feature.is_some(), "{}", driver.name);
            assert_eq!(backend.schemes, driver.schemes, "{}", driver.name);
        }
    }
}
