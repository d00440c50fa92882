//! The screens of `docs/screens.md`: one scene on each store there is, as it looks at two widths.
//!
//! `LOCK_SCREENS=docs/screens.md cargo test -p lockctl --features full --test screens -- --ignored` writes them,
//! where the variables that `cargo xtask servers` prints name the servers.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod common;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::process::Child;

use common::Place;
use common::any_store::Store;
use common::any_store::parse;
use common::eventually;
use common::finish;
use common::tty::Tty;

const LONG: &str = "orders:2026-11-21:eu-west-1:customer-000042:checkout";

/// Who holds what: key, mode, owner.
const HOLDERS: [(&str, &str, &str); 6] = [
    ("encode", "permits:3", "ci@build-1:7910"),
    ("encode", "permits:3", "ci@build-2:8027"),
    ("nightly", "exclusive", "cron@db-1:71"),
    (LONG, "exclusive", "shop@web-1:7301"),
    ("report", "shared", "ann@desk:4711"),
    ("report", "shared", "ben@desk:4712"),
];

/// Who waits for what, in order.
const WAITERS: [(&str, &str, &str); 3] = [
    (LONG, "exclusive", "shop@web-2:7302"),
    (LONG, "exclusive", "shop@web-3:7303"),
    ("report", "exclusive", "eve@desk:4713"),
];

/// The same on each store.
struct Scene {
    place: Place,
    holders: Vec<Child>,
    waiters: Vec<Child>,
}

impl Scene {
    fn set(store: Store<'_>) -> Self {
        let place = store.place();
        let until_go = "until [ -e go ]; do sleep 0.05; done";
        let mut scene = Self { place, holders: Vec::new(), waiters: Vec::new() };
        for (number, (key, mode, owner)) in HOLDERS.into_iter().enumerate() {
            let call = ["run", key, "--mode", mode, "--owner", owner, "--ttl", "20s"];
            let job = scene.place.start_job(&call, &format!("job{number}"), until_go);
            scene.holders.push(job);
        }
        for (key, mode, owner) in WAITERS {
            let before = scene.waiting(key);
            let call = ["run", key, "--mode", mode, "--owner", owner, "--fair", "--wait", "1m"];
            scene.waiters.push(scene.place.start(&[&call[..], &["--", "true"]].concat()));
            eventually("it is in line", || scene.waiting(key) == before + 1);
        }
        scene
    }

    fn waiting(&self, key: &str) -> u64 {
        let status = self.place.run(&["status", key, "--json"]);
        parse(&status.stdout)["waiting"].as_u64().unwrap()
    }

    /// What a command shows on a terminal of so many columns.
    fn shown(&self, command: &str, columns: u16) -> String {
        let tty =
            Tty::start(&self.place, &format!("sh -c 'read x; \"$L\" {command}; read x'"), &[], &[]);
        tty.resize(14, columns);
        tty.types("\n");
        let processes = HOLDERS.map(|(_, _, owner)| owner.rsplit(':').next().unwrap());
        let all = |screen: &str| processes.iter().all(|process| screen.contains(process));
        tty.shows_that("all holders", all);
        if command == "watch" {
            tty.shows("3 waiting");
            tty.shows("rows  q quit");
        }
        // What the terminal echoed of the line that began it.
        let screen = tty.screen();
        let lines: Vec<&str> = screen.trim().lines().map(str::trim_end).collect();
        assert!(
            lines.iter().all(|line| !line.contains("nightly") || line.contains("cron")),
            "{screen}"
        );
        lines.join("\n")
    }

    fn end(self) {
        fs::write(self.place.path("go"), "").unwrap();
        for child in self.holders.into_iter().chain(self.waiters) {
            assert_eq!(finish(child).code, 0);
        }
    }
}

fn document(store: Store<'_>) -> String {
    let scene = Scene::set(store);
    let mut text = format!("\n## {}\n", store.name);
    for (command, columns) in [("list", 80), ("list", 120), ("watch", 80), ("watch", 120)] {
        let screen = scene.shown(command, columns);
        write!(text, "\n`lockctl {command}`, {columns} columns:\n\n```text\n{screen}\n```\n")
            .unwrap();
    }
    scene.end();
    text
}

#[test]
#[ignore = "writes docs/screens.md"]
fn the_scene_can_be_seen_on_every_store() {
    let mut text = include_str!("screens.md").to_owned();
    let mut stores = vec![("sqlite", "sqlite:locks.db".to_owned())];
    for name in ["redis", "mysql", "postgres", "etcd", "zookeeper"] {
        match env::var(format!("LOCK_TEST_{}_URL", name.to_uppercase())) {
            Ok(url) => stores.push((name, url)),
            Err(_) => write!(text, "\n## {name}\n\nNo server was named.\n").unwrap(),
        }
    }
    for (name, url) in &stores {
        let (session, schema, ttl) = (false, false, "20s");
        let store = Store { url, name, session, schema, ttl, freed: common::LIMIT };
        text.push_str(&document(store));
    }
    match env::var("LOCK_SCREENS") {
        Ok(path) => {
            fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../").to_owned() + &path, text).unwrap()
        }
        Err(_) => println!("{text}"),
    }
}
