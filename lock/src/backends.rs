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
    #[cfg(feature = "mysql")]
    lock_mysql::DRIVER,
    #[cfg(feature = "postgres")]
    lock_postgres::DRIVER,
    #[cfg(feature = "etcd")]
    lock_etcd::DRIVER,
    #[cfg(feature = "zookeeper")]
    lock_zookeeper::DRIVER,
];

/// A backend, compiled in or not.
pub(crate) struct Backend {
    /// Its name as provider and section.
    pub(crate) name: &'static str,
    pub(crate) schemes: &'static [&'static str],
    /// What compiles it in.
    feature: &'static str,
}

pub(crate) const BACKENDS: &[Backend] = &[
    Backend { name: "memory", schemes: &["memory"], feature: "memory" },
    Backend { name: "sqlite", schemes: &["sqlite"], feature: "sqlite" },
    Backend {
        name: "redis",
        schemes: &["redis", "rediss", "redis+sentinel", "redis+cluster"],
        feature: "redis",
    },
    Backend { name: "redlock", schemes: &["redlock"], feature: "redis" },
    Backend { name: "mysql", schemes: &["mysql", "mariadb"], feature: "mysql" },
    Backend { name: "postgres", schemes: &["postgres", "postgresql"], feature: "postgres" },
    Backend { name: "etcd", schemes: &["etcd", "etcds"], feature: "etcd" },
    Backend { name: "zookeeper", schemes: &["zookeeper"], feature: "zookeeper" },
];

/// Finds the driver for a URL.
pub(crate) fn of_url(url: &ConnectUrl, drivers: &'static [Driver]) -> Result<&'static Driver> {
    let scheme = url.scheme();
    if let Some(driver) = drivers.iter().find(|driver| driver.schemes.contains(&scheme)) {
        return Ok(driver);
    }
    if let Some(backend) = BACKENDS.iter().find(|backend| backend.schemes.contains(&scheme)) {
        return Err(backend.missing());
    }
    let known = BACKENDS.iter().flat_map(|backend| backend.schemes.iter().copied());
    Err(unknown("URL scheme", scheme, known))
}

/// Finds the driver that a configuration names as its provider.
pub(crate) fn of_provider(name: &str, drivers: &'static [Driver]) -> Result<&'static Driver> {
    if let Some(driver) = drivers.iter().find(|driver| driver.name == name) {
        return Ok(driver);
    }
    match BACKENDS.iter().find(|backend| backend.name == name) {
        Some(backend) => Err(backend.missing()),
        None => Err(unknown("provider", name, BACKENDS.iter().map(|backend| backend.name))),
    }
}

impl Backend {
    fn missing(&self) -> lock_core::Error {
        let Self { name, feature, .. } = self;
        refused(format!("backend {name} is not compiled in: build with feature {feature:?}"))
    }
}

fn unknown<'a>(
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> lock_core::Error {
    let hint = nearest(word, known.clone())
        .map(|name| format!(", did you mean {name:?}?"))
        .unwrap_or_default();
    let known = known.collect::<Vec<_>>().join(", ");
    refused(format!("unknown {what} {word:?}{hint} (known: {known})"))
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
            assert_eq!(backend.schemes, driver.schemes, "{}", driver.name);
        }
    }
}
