//! What is said of a server has the words of the manual.

/// Checks each row of the table whose head begins with `head`: a server, a URL with `PORT` in it, and the error.
/// `start` starts what the row names, and returns its port and what has to live until the error has come.
pub(crate) async fn check<T>(head: &str, start: impl Fn(&str) -> (u16, T)) {
    let rows = rows(head);
    assert!(rows.len() > 2, "no table {head}");
    let mut differing = Vec::new();
    for [server, url, said] in rows {
        let (port, _alive) = start(server);
        let port = port.to_string();
        let error = lock::connect(&url.replace("PORT", &port)).await.err();
        let shown = error.map_or_else(|| "no error".to_owned(), |error| error.to_string());
        let shown = shown.replace(&port, "PORT");
        if shown != said {
            differing.push(format!("| {server} | `{url}` | `{shown}` |"));
        }
    }
    assert!(differing.is_empty(), "the manual says otherwise:\n{}", differing.join("\n"));
}

fn rows(head: &str) -> Vec<[&'static str; 3]> {
    let lines = include_str!("../../src/manual/errors.md").lines();
    let table = lines.skip_while(|line| !line.starts_with(head)).skip(2);
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &'static str) -> [&'static str; 3] {
    match line.split('`').collect::<Vec<_>>()[..] {
        [server, url, " | ", said, " |"] => [server.trim_matches([' ', '|']), url, said],
        _ => panic!("a row has a server and two cells of code: {line}"),
    }
}
