//! The tables of the manual are the tests: what they say is what a user sees, word for word.

use lock_core::ConnectUrl;
use lock_core::Result;

use crate::Config;
use crate::backends;

/// The rows of the tables whose head begins with `head`: what is written, and what is said.
fn rows(head: &str) -> Vec<(&'static str, &'static str)> {
    let lines = include_str!("errors.md").lines();
    let table = lines.skip_while(|line| !line.starts_with(head)).skip(2);
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn cells(line: &'static str) -> (&'static str, &'static str) {
    match line.split('`').collect::<Vec<_>>()[..] {
        ["| ", written, " | ", said, " |"] => (written, said),
        _ => panic!("a row has two cells of code: {line}"),
    }
}

/// Checks each row of a table against what `attempt` says.
fn check<T>(head: &str, attempt: impl Fn(&str) -> Result<T>) {
    let rows = rows(head);
    assert!(!rows.is_empty(), "no table {head}");
    let differing: Vec<String> = rows
        .iter()
        .filter_map(|(written, said)| {
            let error = attempt(written).err().map(|error| error.to_string());
            let shown = error.unwrap_or_else(|| "no error".to_owned());
            (shown != *said).then(|| format!("| `{written}` | `{shown}` |"))
        })
        .collect();
    assert!(differing.is_empty(), "the manual says otherwise:\n{}", differing.join("\n"));
}

fn connect(config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(config.connect()).map(drop)
}

#[test]
#[cfg(all(feature = "memory", feature = "sqlite"))]
fn a_url_is_refused_in_the_manual_s_words() {
    check("| URL |", |url| connect(&Config::of_url(url)?));
}

#[test]
fn a_feature_that_is_off_is_named_in_the_manual_s_words() {
    check("| URL without", |url| backends::of_url(&ConnectUrl::parse(url)?, &[]));
}

#[test]
#[cfg(all(feature = "memory", feature = "sqlite"))]
fn a_configuration_is_refused_in_the_manual_s_words() {
    check("| configuration |", |text| connect(&Config::parse(text, "yaml")?));
}

#[test]
fn a_file_is_refused_in_the_manual_s_words() {
    check("| file |", |path| Config::from_file(path));
}

#[test]
#[cfg(all(feature = "memory", feature = "sqlite"))]
fn the_environment_is_refused_in_the_manual_s_words() {
    check("| variable |", |variable| {
        let mut config = Config::from_vars(variable.split_once('='))?;
        config.provider = Some("memory".to_owned());
        connect(&config)
    });
}
