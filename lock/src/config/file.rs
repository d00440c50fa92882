//! Configuration files.

use std::path::Path;

use config::FileFormat;
use config::Source as _;
use lock_core::Error;
use lock_core::Result;

use super::Config;
use super::read::Table;
use super::refused;

pub(super) fn read(path: &Path) -> Result<Config> {
    let shown = path.display();
    let named = |error: Error| refused(format!("config file {shown}: {}", error.message()));
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let (name, format) = format(extension).map_err(named)?;
    let text = std::fs::read_to_string(path)
        .map_err(|error| refused(format!("cannot read config file {shown}: {error}")))?;
    values(&text, name, format).map_err(named)
}

pub(super) fn parse(text: &str, extension: &str) -> Result<Config> {
    let (name, format) = format(extension)?;
    values(text, name, format)
}

fn format(extension: &str) -> Result<(&'static str, FileFormat)> {
    match extension {
        "yaml" | "yml" => Ok(("YAML", FileFormat::Yaml)),
        "toml" => Ok(("TOML", FileFormat::Toml)),
        "json" => Ok(("JSON", FileFormat::Json)),
        _ => Err(refused(format!(
            "{extension:?} is no format of configuration: use yaml, yml, toml or json"
        ))),
    }
}

fn values(text: &str, name: &str, format: FileFormat) -> Result<Config> {
    let values = config::File::from_str(text, format).collect();
    let table: Table = values
        .and_then(|values| config::Value::from(values).try_deserialize())
        .map_err(|error| malformed(name, &error.to_string()))?;
    table.try_into()
}

/// Says where the text is wrong. The parser's own words may quote the line, and that a password.
fn malformed(format: &str, cause: &str) -> Error {
    let place = match (number_after(cause, "line "), number_after(cause, "column ")) {
        (Some(line), Some(column)) => format!(" at line {line}, column {column}"),
        _ => String::new(),
    };
    refused(format!("this is not {format} with names and values{place}"))
}

fn number_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(word)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest.get(..digits).filter(|digits| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: [(&str, &str); 6] = [
        ("toml", "url = \"redis://ann:hunter2@h\n"),
        ("toml", "url = redis://ann:hunter2@h"),
        ("yaml", "url: [redis://ann:hunter2@h"),
        ("yaml", "redis://ann:hunter2@h"),
        ("json", "{\"url\": \"redis://ann:hunter2@h\""),
        ("json", "\"redis://ann:hunter2@h\""),
    ];

    #[test]
    fn broken_text_shows_its_place_and_no_password() {
        for (format, text) in BROKEN {
            let error = parse(text, format).expect_err(text);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("with names and values"), "{shown}");
        }
        assert!(parse(BROKEN[0].1, "toml").unwrap_err().to_string().contains("at line 1, column "));
    }

    #[test]
    fn values_of_the_wrong_kind_show_no_password() {
        for text in [
            "sqlite: redis://ann:hunter2@h",
            "url: [redis://ann:hunter2@h]",
            "default_retry_count: redis://ann:hunter2@h",
            "io: redis://ann:hunter2@h",
            "sqlite: {path: [redis://ann:hunter2@h]}",
        ] {
            let error = parse(text, "yaml").expect_err(text);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_file_is_named_in_its_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock.yaml");
        let absent = read(&path).unwrap_err().to_string();
        assert!(absent.starts_with("cannot read config file /"), "{absent}");
        std::fs::write(&path, "default_ttl: 60").unwrap();
        let wrong = read(&path).unwrap_err().to_string();
        assert!(
            wrong.ends_with(
                "lock.yaml: default_ttl: \"60\" is not a duration: write 300ms, 5s, 10m, 1h or 0; \
             60 of what? perhaps 60s"
            ),
            "{wrong}"
        );
        std::fs::write(&path, "default_ttl: 60s").unwrap();
        assert_eq!(read(&path).unwrap().default_ttl, Some(std::time::Duration::from_secs(60)));
    }
}
