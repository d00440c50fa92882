//! From a configuration to what has to be opened: pure, so that every refusal can be tested alone.

use std::time::Duration;

use lock_core::Backoff;
use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Result;
use lock_core::Wait;
use lock_core::nearest;

use crate::Config;
use crate::Io;
use crate::backends;
use crate::backends::DRIVERS;
use crate::config::DEFAULT_RETRY_DELAY;
use crate::config::Section;
use crate::config::refused;

/// What a configuration asks for; `None` is the engine's default.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) driver: &'static Driver,
    /// Without the common query keys.
    pub(crate) url: ConnectUrl,
    pub(crate) prefix: Option<String>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) wait: Option<Wait>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) io: Option<Io>,
}

impl Plan {
    /// Makes the plan, or says what has to be removed or added.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        check_sections(config)?;
        let driver = driver(config)?;
        let mut url = url(config, driver)?;
        driver.check(&url)?;
        let (ttl, timeout) = (url.duration("ttl")?, url.duration("timeout")?);
        let io = url.choice("io", &["runtime", "thread"])?;
        let io = io.map(|word| if word == "thread" { Io::Thread } else { Io::Runtime });
        let prefix = url.take("prefix");
        for key in ["ttl", "timeout", "io"] {
            url.take(key);
        }
        Ok(Self {
            driver,
            url,
            prefix: one("prefix", prefix, "key_prefix", config.key_prefix.clone())?,
            ttl: positive("TTL", one("ttl", ttl, "default_ttl", config.default_ttl)?)?,
            wait: wait(config)?,
            timeout: positive("timeout", one("timeout", timeout, "timeout", config.timeout)?)?,
            io: one("io", io, "io", config.io)?,
        })
    }
}

/// Where the locks are, with the prefix and what the backend's section says, without passwords.
pub(crate) fn place(config: &Config) -> Result<ConnectUrl> {
    let mut url = url(config, driver(config)?)?;
    if let (None, Some(prefix)) = (url.text("prefix"), &config.key_prefix) {
        url.add("prefix", prefix)?;
    }
    Ok(url.without_password())
}

fn driver(config: &Config) -> Result<&'static Driver> {
    match (&config.url, &config.provider) {
        (Some(url), None) => backends::of_url(url, DRIVERS),
        (None, Some(provider)) => backends::of_provider(provider, DRIVERS),
        (Some(url), Some(provider)) => {
            let driver = backends::of_url(url, DRIVERS)?;
            if driver.name == provider {
                return Ok(driver);
            }
            Err(refused(format!(
                "provider {provider:?} and a url with scheme {:?} are different backends: \
                 remove provider or url",
                url.scheme()
            )))
        }
        (None, None) => {
            Err(refused("no store is named: set url, as in sqlite:locks.db, or provider: memory"))
        }
    }
}

/// The configured URL, or the one that the provider's section describes.
fn url(config: &Config, driver: &Driver) -> Result<ConnectUrl> {
    let mut values =
        config.sections.get(driver.name).map(|section| section.values.clone()).unwrap_or_default();
    let name = driver.name;
    let mut url = match (&config.url, values.remove("path"), name) {
        (Some(url), Some(path), _) if ConnectUrl::of_path(name, &path)?.path() != url.path() => {
            return Err(refused(format!("{name}.path and url both say where: remove one")));
        }
        (Some(url), _, _) => url.clone(),
        (None, Some(path), _) => ConnectUrl::of_path(name, &path)?,
        (None, None, "memory") => ConnectUrl::of_path(name, "")?,
        (None, None, "sqlite") => {
            return Err(refused("provider sqlite has no place: set sqlite.path or url"));
        }
        (None, None, _) => {
            let scheme = driver.schemes[0];
            let hint = format!("set url, as in {scheme}://…");
            return Err(refused(format!("provider {name} has no place: {hint}")));
        }
    };
    for (key, value) in values {
        let param = param(driver, &key);
        match url.text(param) {
            None => url.add(param, &value)?,
            Some(said) if said == value => {}
            Some(_) => {
                return Err(refused(format!(
                    "{name}.{key} and the url's query key {param:?} are both set: remove one"
                )));
            }
        }
    }
    Ok(url)
}

/// The query key of a name in a section: the same, but for the one that has a longer name, and for
/// hyphens, which the names of variables cannot have.
fn param<'a>(driver: &Driver, key: &'a str) -> &'a str {
    let key = if key == "table_name" { "table" } else { key };
    let mut known = driver.params.iter().map(|param| param.name);
    known.find(|known| known.replace('-', "_") == key).unwrap_or(key)
}

/// Checks the names in all sections whose backend is compiled in, used or not.
fn check_sections(config: &Config) -> Result<()> {
    for driver in DRIVERS {
        let Some(section) = config.sections.get(driver.name) else { continue };
        check_section(driver, section)?;
    }
    Ok(())
}

fn check_section(driver: &Driver, section: &Section) -> Result<()> {
    let known = section_names(driver);
    let is_known = |key: &str| known.contains(&key) || known.contains(&param(driver, key));
    let Some(key) = section.values.keys().find(|key| !is_known(key)) else {
        return Ok(());
    };
    let hint = nearest(key, known.iter().copied())
        .map(|known| format!(", did you mean {known:?}?"))
        .unwrap_or_default();
    let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    let name = driver.name;
    Err(refused(format!("unknown field \"{name}.{key}\"{hint} (known: {known})")))
}

/// What a section may set: the driver's query keys, the longer name of one, and a file's place.
fn section_names(driver: &Driver) -> Vec<&'static str> {
    let path = (driver.name == "sqlite").then_some("path");
    let keys = driver.params.iter().map(|param| param.name);
    let long = driver.params.iter().filter(|param| param.name == "table").map(|_| "table_name");
    path.into_iter().chain(long).chain(keys).collect()
}

/// Takes the one of two values that is set; two that are the same are one.
fn one<T: PartialEq>(
    key: &str,
    in_url: Option<T>,
    field: &str,
    in_config: Option<T>,
) -> Result<Option<T>> {
    if in_url.is_some() && in_config.is_some() && in_url != in_config {
        return Err(refused(format!(
            "{field} and the url's query key {key:?} are both set: remove one"
        )));
    }
    Ok(in_url.or(in_config))
}

fn positive(what: &str, duration: Option<Duration>) -> Result<Option<Duration>> {
    match duration {
        Some(Duration::ZERO) => Err(refused(format!("a {what} of 0 is none: make it longer"))),
        _ => Ok(duration),
    }
}

fn wait(config: &Config) -> Result<Option<Wait>> {
    match (config.default_retry_count, config.default_retry_delay) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(refused(
            "default_retry_delay without default_retry_count: set both, or none to wait for ever",
        )),
        (Some(0), _) => Ok(Some(Wait::Never)),
        (Some(count), delay) => {
            let backoff = Backoff::fixed(delay.unwrap_or(DEFAULT_RETRY_DELAY));
            Ok(Some(Wait::Attempts { max: count + 1, backoff }))
        }
    }
}
