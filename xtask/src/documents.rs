//! What several crates say of one thing is the same.

use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The lines of a document that give rights.
fn rights(document: &str) -> impl Iterator<Item = &str> {
    let gives = |line: &&str| {
        ["GRANT ", "locks on ", "etcdctl role "].iter().any(|start| line.starts_with(start))
    };
    document.lines().filter(gives)
}

#[test]
fn the_manual_gives_the_rights_that_the_backends_are_tested_with() {
    let paths = ["lock-redis/src", "lock-mysql/src", "lock-postgres/src", "lock-etcd"];
    let backends = paths.map(|path| read(&format!("{path}/docs.md")));
    let tested: Vec<&str> = backends.iter().flat_map(|document| rights(document)).collect();
    let manual = read("lock/src/manual/security.md");
    assert_eq!(rights(&manual).collect::<Vec<_>>(), tested);
}
