//! The table of errors is the test: each row is run, and says what a user sees, word for word.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use common::Place;

struct Row {
    call: &'static str,
    code: i32,
    said: &'static str,
}

fn rows() -> Vec<Row> {
    let table = include_str!("../README.md").lines();
    let table = table.skip_while(|line| !line.starts_with("| call |")).skip(2);
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn row(line: &'static str) -> Row {
    match line.split('`').collect::<Vec<_>>()[..] {
        ["| ", call, code, said, " |"] => {
            let code = code.trim_matches([' ', '|']).parse().expect(line);
            Row { call, code, said }
        }
        _ => panic!("a row has a call, a code and a line: {line}"),
    }
}

/// Runs one call in a place of its own, where the key `held` is taken.
fn see(call: &str) -> (i32, String) {
    let place = Place::new();
    let held = place.run(&["acquire", "held", "--hold-for", "1h", "--owner", "ann"]);
    assert_eq!(held.code, 0, "{}", held.stderr);
    let words: Vec<&str> = call.split(' ').map(|word| word.trim_matches('\'')).collect();
    let ended = place.run(&words);
    (ended.code, steady(ended.stderr.lines().next().unwrap_or_default()))
}

/// Leaves out of a line the fence and the time that differ from run to run.
fn steady(line: &str) -> String {
    let Some((before, after)) = line.split_once(", fence ") else { return line.to_owned() };
    let after = after.split_once(" unless renewed").map_or("", |(_, after)| after);
    format!("{before}, fence N, for T unless renewed{after}")
}

#[test]
fn each_call_of_the_table_is_refused_in_its_words() {
    let differing: Vec<String> = rows()
        .into_iter()
        .filter_map(|row| {
            let (code, said) = see(row.call);
            let same = code == row.code && said == row.said;
            (!same).then(|| format!("| `{}` | {code} | `{said}` |", row.call))
        })
        .collect();
    assert!(differing.is_empty(), "the table says otherwise:\n{}", differing.join("\n"));
}
