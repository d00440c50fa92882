use proptest::prelude::*;

use super::*;

fn url(text: &str) -> ConnectUrl {
    ConnectUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    ConnectUrl::parse(text).map(|url| url.to_string()).expect_err(text).to_string()
}

#[test]
fn splits_all_parts() {
    let url = url("Redis+Cluster://ann:a%40b%2F@h1:1,h2,[::1]:3/0?prefix=shop:&ttl=5s");
    assert_eq!(url.scheme(), "redis+cluster");
    assert_eq!((url.user(), url.password()), (Some("ann"), Some("a@b/")));
    let hosts: Vec<_> = url.hosts().iter().map(|host| (host.name.as_str(), host.port)).collect();
    assert_eq!(hosts, [("h1", Some(1)), ("h2", None), ("::1", Some(3))]);
    assert_eq!(url.path(), "/0");
    assert_eq!(url.keys().collect::<Vec<_>>(), ["prefix", "ttl"]);
    assert_eq!(url.text("prefix"), Some("shop:"));
}

#[test]
fn takes_paths_without_hosts() {
    for (text, path) in [
        ("memory:", ""),
        ("memory:shared", "shared"),
        ("sqlite:rel/x.db?table=t", "rel/x.db"),
        ("sqlite:/abs/x.db", "/abs/x.db"),
        ("sqlite:///abs/x.db", "/abs/x.db"),
        ("sqlite:caf%C3%A9%20%40.db", "café @.db"),
    ] {
        assert_eq!(url(text).path_only().unwrap(), path, "{text}");
    }
    assert!(url("sqlite://rel/x.db").path_only().is_err());
}

#[test]
fn a_password_may_have_no_user_and_a_socket_is_a_host() {
    assert_eq!(url("redis://:pw@h").password(), Some("pw"));
    assert_eq!(url("redis://:pw@h").user(), None);
    assert_eq!(url("redis://:pw@h").to_string(), "redis://:***@h");
    assert_eq!(url("postgres://%2Frun%2Fpg/db").hosts()[0].name, "/run/pg");
}

#[test]
fn refuses_what_is_not_a_url_with_a_hint() {
    for (text, hint) in [
        ("", "begins with a scheme"),
        ("redis", "begins with a scheme"),
        (":x", "begins with a scheme"),
        ("redis//u:p@h", "begins with a scheme"),
        ("sqlite:a b", "%20"),
        ("sqlite:a\n", "line end"),
        ("sqlite:a#b", "%23"),
        ("sqlite:a@b", "%40"),
        ("redis:u:p@h", "%40"),
        ("redis://u:p@q@h", "%40"),
        ("redis://u:p/q@h", "%40"),
        ("redis://u:p?q@h", "%40"),
        ("redis://u:p@", "name a host"),
        ("redis://h:0", "port from 1"),
        ("redis://h:", "port from 1"),
        ("redis://h:+1", "port from 1"),
        ("redis://h:65536", "port from 1"),
        ("redis://u:p%40h", "port from 1"),
        ("redis://h1,,h2", "single commas"),
        ("redis://:1", "a host is"),
        ("redis://h%40x", "a host is"),
        ("redis://::1", "in brackets"),
        ("redis://[::1", "brackets are for"),
        ("redis://[x]", "brackets are for"),
        ("redis://[::1]x", "port from 1"),
        ("redis://h,h", "host number 2"),
        ("sqlite:a%4", "%25"),
        ("sqlite:a%zz", "%25"),
        ("sqlite:a%ff", "UTF-8"),
        ("sqlite:a%00", "NUL"),
        ("sqlite:a?x", "\"x\" has no value"),
        ("sqlite:a?=x", "has no value"),
        ("sqlite:a?x=1&y=2&x=3", "\"x\" is given twice"),
    ] {
        let message = refusal(text);
        assert!(message.contains(hint), "{text}: {message}");
    }
}

#[test]
fn typed_values_say_what_they_want() {
    let url = url("memory:?d=5s&n=7&b=true&c=two&bad=x&plus=%2B5");
    assert_eq!(url.duration("d").unwrap(), Some(Duration::from_secs(5)));
    assert_eq!(url.integer("n", 1..=9).unwrap(), Some(7));
    assert_eq!(url.flag("b").unwrap(), Some(true));
    assert_eq!(url.choice("c", &["one", "two"]).unwrap(), Some("two"));
    assert_eq!(url.duration("absent").unwrap(), None);
    for (error, text) in [
        (
            url.duration("bad").unwrap_err(),
            "query key \"bad\": \"x\" is not a duration: write 300ms, 5s, 10m, 1h or 0",
        ),
        (
            url.integer("n", 8..=9).unwrap_err(),
            "query key \"n\": \"7\" is not a whole number from 8 to 9",
        ),
        (
            url.integer("plus", 1..=9).unwrap_err(),
            "query key \"plus\": \"+5\" is not a whole number from 1 to 9",
        ),
        (url.flag("bad").unwrap_err(), "query key \"bad\": \"x\" is not one of true, false"),
    ] {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[test]
fn keys_can_be_taken_off_and_added_once() {
    let mut url = url("memory:?ttl=5s&x=1");
    assert_eq!(url.take("ttl").as_deref(), Some("5s"));
    assert_eq!(url.take("ttl"), None);
    url.add("y", "a&b").unwrap();
    assert!(url.add("x", "2").is_err());
    assert_eq!(url.to_string(), "memory:?x=1&y=a%26b");
}

#[test]
fn secrets_of_the_query_are_hidden_and_handed_to_nobody() {
    let url = url("postgres://ann:hunter2@h/db?password=hunter2&sslPassPhrase=hunter2&table=t");
    assert_eq!(url.to_string(), "postgres://ann:***@h/db?password=***&sslPassPhrase=***&table=t");
    assert_eq!(url.without_password().to_string(), "postgres://ann@h/db?table=t");
}

#[test]
fn a_path_of_any_letters_becomes_a_url_and_comes_back() {
    for path in ["", "a b", "/abs/é@#?%&.db", "//twice", "rel:x", "./x", "a\nb"] {
        let made = ConnectUrl::of_path("sqlite", path).unwrap();
        assert_eq!(made.path_only().unwrap(), path);
        assert_eq!(url(&made.to_string()), made);
    }
    assert!(ConnectUrl::of_path("sqlite", "a\0b").is_err());
    assert!(ConnectUrl::of_path("", "x").is_err());
}

/// Text that a parser trips over more often than over arbitrary text.
fn url_like() -> impl Strategy<Value = String> {
    "(redis|sqlite|x\\+y)?:?/{0,3}[a-z:@,/?#%&=\\[\\]0-9é \\PC]{0,40}"
}

proptest! {
    #[test]
    fn never_panics_and_shows_what_it_parsed(text in prop_oneof![url_like(), any::<String>()]) {
        if let Ok(parsed) = ConnectUrl::parse(&text) {
            let open = parsed.without_password();
            prop_assert_eq!(ConnectUrl::parse(&open.to_string()).unwrap(), open);
        }
    }

    /// However the characters of a password are or are not escaped, no part of it shows.
    #[test]
    fn never_shows_a_password(
        middle in "[a-z:@,/?#%&=\\[\\]0-9é \\PC]{0,12}",
        slashes in "/{0,3}",
        rest in "(/0)?(\\?ttl=5s|\\?hosts=h)?",
    ) {
        let text = format!("redis:{slashes}ann:Hunter{middle}Tiger@h:1{rest}");
        let shown = match ConnectUrl::parse(&text) {
            Ok(url) => {
                prop_assert_eq!(url.password().unwrap().starts_with("Hunter"), true);
                format!("{url} {url:?} {:?} {}", url.flag("ttl"), url.without_password())
            }
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains("Hunter") && !shown.contains("Tiger"), "{} shows {}", text, shown);
    }

    #[test]
    fn an_escaped_password_comes_back_whole(password in "\\PC{0,20}") {
        let escaped = utf8_percent_encode(&password, AUTHORITY);
        let url = ConnectUrl::parse(&format!("redis://ann:{escaped}@h")).unwrap();
        prop_assert_eq!(url.password(), Some(password.as_str()));
    }
}
