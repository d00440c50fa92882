//! What a user can set, parsed at the edge.

use std::sync::Arc;

use lock_core::ConnectUrl;
use lock_core::Driver;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::Param;
use lock_core::Result;
use lock_core::SharedBackend;
use sqlx::ConnectOptions as _;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::mysql::MySqlSslMode;

use crate::backend::MySql;
use crate::schema;

/// The table of a configuration that names none.
pub const DEFAULT_TABLE: &str = "distributed_locks";

/// Names have 64 characters at most, and the second table's name is seven longer.
const MAX_TABLE_BYTES: usize = 57;

const PORT: u16 = 3306;

const SSL_MODES: [(&str, MySqlSslMode); 5] = [
    ("disabled", MySqlSslMode::Disabled),
    ("preferred", MySqlSslMode::Preferred),
    ("required", MySqlSslMode::Required),
    ("verify_ca", MySqlSslMode::VerifyCa),
    ("verify_identity", MySqlSslMode::VerifyIdentity),
];

/// How `mysql:` and `mariadb:` URLs open a server.
pub const DRIVER: Driver = Driver {
    name: "mysql",
    schemes: &["mysql", "mariadb"],
    params: &[
        Param { name: "table", help: "the table of the locks; distributed_locks" },
        Param { name: "socket", help: "the server's Unix socket instead of host and port; none" },
        Param {
            name: "ssl-mode",
            help: "disabled, preferred, required, verify_ca or verify_identity; preferred",
        },
        Param { name: "ssl-ca", help: "file of trusted certificates (PEM); the system's" },
        Param { name: "ssl-cert", help: "file of the client's certificate (PEM); none" },
        Param { name: "ssl-key", help: "file of the client's key (PEM); none" },
        Param {
            name: "unsafe_cluster",
            help: "allow: use one node of a cluster that several may write to; not set",
        },
    ],
    connect: |url| Box::pin(open(url)),
    schema: |url| Ok(Some(schema::ddl(&Config::from_url(url)?.table))),
};

async fn open(url: ConnectUrl) -> Result<SharedBackend> {
    Ok(Arc::new(MySql::connect(Config::from_url(&url)?).await?))
}

/// Where the locks are kept and how.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) options: MySqlConnectOptions,
    pub(crate) table: String,
    pub(crate) any_cluster: bool,
}

impl Config {
    /// Reads a URL whose keys the driver has checked.
    pub(crate) fn from_url(url: &ConnectUrl) -> Result<Self> {
        let table = url.text("table").unwrap_or(DEFAULT_TABLE);
        check_table(table)?;
        Ok(Self {
            options: options(url)?,
            table: table.to_owned(),
            any_cluster: url.choice("unsafe_cluster", &["allow"])?.is_some(),
        })
    }
}

fn options(url: &ConnectUrl) -> Result<MySqlConnectOptions> {
    // What a session needs is set by us, in one statement and in full.
    let options = MySqlConnectOptions::new()
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    let options = address(url, options)?.database(database(url)?);
    let options = match url.user() {
        Some(user) if !user.is_empty() => options.username(user),
        _ => options,
    };
    let options = match url.password() {
        Some(password) => options.password(password),
        None => options,
    };
    tls(url, options)
}

/// How many prepared statements a connection keeps: all of ours, the long ones in each of their sizes.
const STATEMENTS: usize = 128;

fn address(url: &ConnectUrl, options: MySqlConnectOptions) -> Result<MySqlConnectOptions> {
    let [host] = url.hosts() else {
        return Err(config("name one server, as in mysql://127.0.0.1:3306/app: the primary"));
    };
    if let Some(socket) = url.text("socket") {
        return Ok(options.socket(socket));
    }
    Ok(options.host(&host.name).port(host.port.unwrap_or(PORT)))
}

fn database(url: &ConnectUrl) -> Result<&str> {
    match url.path().trim_start_matches('/') {
        "" => Err(config("name the database of the table, as in mysql://127.0.0.1/app")),
        name if name.contains('/') => Err(config("the path is the name of one database")),
        name => Ok(name),
    }
}

fn tls(url: &ConnectUrl, options: MySqlConnectOptions) -> Result<MySqlConnectOptions> {
    let mode = ssl_mode(url)?;
    let files = ["ssl-ca", "ssl-cert", "ssl-key"].map(|key| url.text(key));
    let [ca, cert, key] = files;
    if matches!(mode, MySqlSslMode::Disabled) && files.iter().any(Option::is_some) {
        return Err(config("certificates are given, but ssl-mode=disabled encrypts nothing"));
    }
    if cert.is_some() != key.is_some() {
        return Err(config("ssl-cert and ssl-key go together"));
    }
    for (key, path) in ["ssl-ca", "ssl-cert", "ssl-key"].into_iter().zip(files) {
        check_file(key, path)?;
    }
    let mut options = options.ssl_mode(mode);
    if let Some(file) = ca {
        options = options.ssl_ca(file);
    }
    if let Some((cert, key)) = cert.zip(key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

fn check_file(key: &str, path: Option<&str>) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::File::open(path).map(drop).map_err(|failure| {
        config(&format!("the file of query key {key:?} cannot be read: {failure}"))
            .with_source(failure)
    })
}

/// MySQL's own tools write the modes in capitals.
fn ssl_mode(url: &ConnectUrl) -> Result<MySqlSslMode> {
    let Some(wanted) = url.text("ssl-mode") else { return Ok(MySqlSslMode::Preferred) };
    let named = SSL_MODES.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    named.map(|(_, mode)| *mode).ok_or_else(|| {
        let names = SSL_MODES.map(|(name, _)| name).join(", ");
        config(&format!("query key \"ssl-mode\": {wanted:?} is not one of {names}"))
    })
}

fn check_table(name: &str) -> Result<()> {
    if is_plain_name(name, MAX_TABLE_BYTES) {
        return Ok(());
    }
    Err(config(&format!(
        "the table name {name:?} must have 1 to {MAX_TABLE_BYTES} ASCII letters, digits and \
         underscores and begin with no digit"
    )))
}

/// Names are written into statements, so each has to be a plain word.
pub(crate) fn is_plain_name(name: &str, longest: usize) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(plain) && name.len() <= longest
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Config> {
        let url = ConnectUrl::parse(url)?;
        DRIVER.check(&url)?;
        Config::from_url(&url)
    }

    fn refused(url: &str) -> String {
        let error = read(url).err().expect("it is wrong");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn takes_each_known_key() {
        let config = read(
            "mariadb://ann:pw@db:3307/app?table=my_locks&ssl-mode=VERIFY_CA&ssl-ca=Cargo.toml&\
             ssl-cert=Cargo.toml&ssl-key=Cargo.toml&unsafe_cluster=allow",
        );
        let config = config.unwrap();
        assert_eq!(config.table, "my_locks");
        assert!(config.any_cluster);
        let shown = config.options.to_url_lossy().to_string();
        assert!(shown.contains("db:3307/app"), "{shown}");
        assert_eq!(read("mysql://h/app").unwrap().table, DEFAULT_TABLE);
        assert!(read("mysql://h/app?socket=/run/s.sock").is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(refused("mysql://h").contains("name the database"));
        assert!(refused("mysql://h/a/b").contains("one database"));
        assert!(refused("mysql://h1,h2/a").contains("one server"));
        assert!(refused("mysql:a").contains("one server"));
        assert!(refused("mysql://h/a?ssl-mode=on").contains("verify_identity"));
        assert!(refused("mysql://h/a?ssl-mode=disabled&ssl-ca=x").contains("encrypts nothing"));
        assert!(refused("mysql://h/a?ssl-cert=x").contains("go together"));
        assert!(refused("mysql://h/a?unsafe_cluster=yes").contains("allow"));
        assert!(refused("mysql://h/a?tabel=x").contains("did you mean \"table\""));
    }

    #[test]
    fn a_table_name_cannot_carry_sql() {
        for name in ["", "1a", "a b", "a`", "a;DROP", "a.b", "ä", "a-b", &"a".repeat(58)] {
            let mut url = ConnectUrl::parse("mysql://h/app").unwrap();
            url.add("table", name).unwrap();
            let error = Config::from_url(&url).err().expect("it is no name");
            assert!(error.message().contains("table name"), "{name}");
        }
        assert!(read("mysql://h/app?table=_L0cks").is_ok());
    }
}
