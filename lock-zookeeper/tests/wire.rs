//! What goes over the wire, and how other clients see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must end")]

mod servers;

use std::sync::Arc;
use std::time::Duration;

use conformance_tests::Link as _;
use conformance_tests::Proxy;
use conformance_tests::Weather;
use futures_util::future::join_all;
use lock_core::Clock;
use lock_core::ConnectUrl;
use lock_core::Engine;
use lock_core::EngineOptions;
use lock_core::ErrorKind;
use lock_core::LockOptions;
use lock_core::LockProvider;
use lock_core::Mode;
use lock_zookeeper::DRIVER;
use lock_zookeeper::write_fenced;
use tokio::time::timeout;
use zookeeper_client::Acl;
use zookeeper_client::Acls;
use zookeeper_client::AuthId;
use zookeeper_client::Client;
use zookeeper_client::CreateMode;
use zookeeper_client::Error as ZkError;
use zookeeper_client::LockPrefix;
use zookeeper_client::Permission;

use crate::servers::SHORT;
use crate::servers::Server;

async fn connect(url: &str) -> lock_core::Result<Arc<dyn LockProvider>> {
    let backend = DRIVER.open(ConnectUrl::parse(url)?).await?;
    Ok(Arc::new(Engine::new(backend, EngineOptions::default())?))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn patient() -> LockOptions {
    LockOptions::new().wait(ms(10_000))
}

fn mode(text: &str) -> Mode {
    text.parse().unwrap()
}

async fn is_free(locks: &Arc<dyn LockProvider>, key: &str) -> bool {
    let tried = locks.try_lock(key, &LockOptions::new()).await.unwrap();
    tried.acquired().is_some()
}

#[tokio::test]
async fn a_free_key_costs_two_requests_to_lock_and_one_to_unlock() {
    let server = Server::start();
    // So long that no ping comes between.
    let url = format!("zookeeper://{}?session_timeout=60s", server.address());
    let locks = connect(&url).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    let received = || server.figure("zk_packets_received");
    let (before, idle) = (received(), received());
    for _ in 0..50 {
        locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    }
    // What asking itself costs is taken off.
    let cost = received() - idle - (idle - before);
    assert!((150..=152).contains(&cost), "{cost} requests for 50 pairs");
}

#[tokio::test]
async fn a_free_key_is_locked_in_one_round_trip_and_unlocked_in_one() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = format!("zookeeper://{}?session_timeout=20s", proxy.address());
    let locks = connect(&url).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    proxy.set(Weather::Slow { there: ms(400), back: ms(400) });
    let clock = Clock::system();
    let before = clock.now();
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    let locked = clock.now().saturating_since(before);
    held.unlock().await.unwrap();
    let both = clock.now().saturating_since(before);
    assert!(locked >= ms(800) && locked < ms(1600), "locked after {locked:?}");
    assert!(both >= ms(1600) && both < ms(2400), "unlocked after {both:?}");
}

#[tokio::test]
async fn a_curator_client_and_ours_exclude_each_other() {
    let server = Server::start();
    let locks = connect(&server.url()).await.unwrap();
    let curator = Client::connect(&server.address()).await.unwrap();
    let options = || {
        let all = zookeeper_client::LockOptions::new(Acls::anyone_all());
        all.with_ancestor_options(CreateMode::Container.with_acls(Acls::anyone_all())).unwrap()
    };
    let prefix = || LockPrefix::new_curator("/order/a", "lock-").unwrap();

    let theirs = curator.lock(prefix(), b"them", options()).await.unwrap();
    for text in ["exclusive", "shared", "permits:2"] {
        let wanted = LockOptions::new().mode(mode(text));
        let tried = locks.try_lock("order/a", &wanted).await.unwrap();
        assert!(tried.acquired().is_none(), "{text} beside theirs");
    }
    let status = locks.status("order/a").await.unwrap();
    assert_eq!(status.holders[0].owner.as_deref(), Some("them"));
    let (waits, waiting) = (patient(), async {
        tokio::time::sleep(ms(200)).await;
        drop(theirs);
    });
    let (ours, ()) = tokio::join!(locks.lock("order/a", &waits), waiting);
    let ours = ours.unwrap();

    for text in ["exclusive", "shared", "permits:2"] {
        let held = match text {
            "exclusive" => None,
            text => {
                let held = locks.lock("order/b", &patient().mode(mode(text))).await.unwrap();
                Some(held)
            }
        };
        let path = if held.is_some() { "/order/b" } else { "/order/a" };
        let prefix = LockPrefix::new_curator(path, "lock-").unwrap();
        let theirs = timeout(ms(300), curator.lock(prefix, b"them", options())).await;
        assert!(theirs.is_err(), "theirs beside {text}");
        if let Some(held) = held {
            held.unlock().await.unwrap();
        }
    }
    let free = async {
        tokio::time::sleep(ms(200)).await;
        ours.unlock().await.unwrap();
    };
    let (theirs, ()) = tokio::join!(curator.lock(prefix(), b"them", options()), free);
    theirs.unwrap();
}

#[tokio::test]
async fn the_locks_of_kazoo_are_respected() {
    let server = Server::start();
    let locks = connect(&server.url()).await.unwrap();
    let kazoo = Client::connect(&server.address()).await.unwrap();
    let all = Acls::anyone_all();
    kazoo.create("/k", b"", &CreateMode::Persistent.with_acls(all)).await.unwrap();
    for (kind, readers) in [("__lock__", false), ("__rlock__", true)] {
        let path = format!("/k/0f4a8e601d3a4f1e9b0e3f8a5a1b2c3d{kind}");
        let node = CreateMode::EphemeralSequential.with_acls(all);
        let (_, sequence) = kazoo.create(&path, b"python", &node).await.unwrap();
        assert!(!is_free(&locks, "k").await, "{kind}");
        let shown = async || locks.status("k").await.unwrap().holders.remove(0).owner;
        assert_eq!(shown().await.as_deref(), Some("python"));
        kazoo.set_data(&format!("{path}{sequence}"), &[b'x'; 256], None).await.unwrap();
        assert_eq!(shown().await, None, "it is no name");
        let read = LockOptions::new().mode(mode("shared"));
        let beside = locks.try_lock("k", &read).await.unwrap().acquired();
        assert_eq!(beside.is_some(), readers, "{kind}");
        if let Some(beside) = beside {
            beside.unlock().await.unwrap();
        }
        kazoo.delete(&format!("{path}{sequence}"), None).await.unwrap();
    }
    assert!(is_free(&locks, "k").await);
}

/// What other recipes wait for ends like this, before the ten digits of the sequence.
#[tokio::test]
async fn contenders_bear_the_names_that_a_recipe_looks_for_and_all_recipes_exclude_each_other() {
    let server = Server::start();
    let plain = connect(&server.url()).await.unwrap();
    let other = Client::connect(&server.address()).await.unwrap();
    let rows = [
        ("curator", ["-lock-", "-shared-lock-", "-permit2-lock-"]),
        ("curator-rw", ["-__WRIT__", "-__READ__", "-permit2-__WRIT__"]),
        ("kazoo", ["-__lock__", "-__rlock__", "-permit2-__lock__"]),
    ];
    for (recipe, ends) in rows {
        let locks = connect(&format!("{}&recipe={recipe}", server.url())).await.unwrap();
        for (text, end) in ["exclusive", "shared", "permits:2"].into_iter().zip(ends) {
            let wanted = LockOptions::new().mode(mode(text));
            let held = locks.lock(recipe, &wanted).await.unwrap();
            let name = other.list_children(&format!("/{recipe}")).await.unwrap().remove(0);
            assert!(name[..name.len() - 10].ends_with(end), "{name}");
            assert!(!is_free(&plain, recipe).await, "{recipe} {text}");
            let status = plain.status(recipe).await.unwrap();
            assert_eq!(status.holders[0].mode, Some(mode(text)), "{recipe}");
            let beside = plain.try_lock(recipe, &wanted).await.unwrap().acquired();
            assert_eq!(beside.is_some(), text != "exclusive", "{recipe} {text}");
            if let Some(beside) = beside {
                beside.unlock().await.unwrap();
            }
            held.unlock().await.unwrap();
        }
    }
}

#[tokio::test]
async fn nodes_that_kazoo_relies_on_are_not_removed() {
    let server = Server::start_with(&["-Dznode.container.checkIntervalMs=100"], "");
    let other = Client::connect(&server.address()).await.unwrap();
    for (key, recipe) in [("stays/a", "kazoo"), ("goes/a", "curator")] {
        let locks = connect(&format!("{}&recipe={recipe}", server.url())).await.unwrap();
        locks.lock(key, &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    }
    let removed = async {
        while other.check_stat("/goes").await.unwrap().is_some() {
            tokio::time::sleep(ms(20)).await;
        }
    };
    timeout(ms(20_000), removed).await.unwrap();
    assert!(other.check_stat("/stays/a").await.unwrap().is_some());
}

#[tokio::test]
async fn keys_below_a_key_are_others() {
    let server = Server::start();
    let locks = connect(&server.url()).await.unwrap();
    let _above = locks.lock("a", &LockOptions::new()).await.unwrap();
    let _below = locks.lock("a/b", &LockOptions::new()).await.unwrap();
    assert!(!is_free(&locks, "a").await && !is_free(&locks, "a/b").await);
    assert!(is_free(&locks, "a/c").await);
}

#[tokio::test]
async fn a_reply_that_is_lost_leaves_one_contender() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let locks = connect(&format!("zookeeper://{}?{SHORT}", proxy.address())).await.unwrap();
    let other = Client::connect(&server.address()).await.unwrap();
    locks.lock("a", &LockOptions::new()).await.unwrap().unlock().await.unwrap();
    for _ in 0..5 {
        proxy.set(Weather::LosesReplies);
        let heal = async {
            tokio::time::sleep(ms(100)).await;
            proxy.set(Weather::Fair);
        };
        let wait = patient();
        let (held, ()) = tokio::join!(locks.lock("a", &wait), heal);
        let held = held.unwrap();
        let contenders = other.list_children("/a").await.unwrap();
        assert_eq!(contenders.len(), 1, "{contenders:?}");
        held.unlock().await.unwrap();
        assert!(other.list_children("/a").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_session_that_expires_is_lost_before_and_nothing_of_it_is_adopted() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let cut_off = connect(&format!("zookeeper://{}?{SHORT}", proxy.address())).await.unwrap();
    let other = connect(&server.url()).await.unwrap();
    let held = cut_off.lock("a", &LockOptions::new()).await.unwrap();
    proxy.set(Weather::Hangs);
    let next = other.lock("a", &patient()).await.unwrap();
    // Woken by now, by its own clock.
    assert!(!held.is_valid());
    timeout(ms(10), held.lost()).await.unwrap();
    assert!(next.fence() > held.fence());
    // What the first has sent meanwhile arrives now.
    proxy.set(Weather::Fair);
    assert!(held.unlock().await.is_err());
    assert!(!is_free(&cut_off, "a").await && next.is_valid());
    next.unlock().await.unwrap();
    let again = cut_off.lock("a", &patient()).await.unwrap();
    let status = other.status("a").await.unwrap();
    assert_eq!((status.holders.len(), status.waiting), (1, 0), "{status:?}");
    again.unlock().await.unwrap();
}

#[tokio::test]
async fn what_was_given_back_while_the_line_was_down_goes_when_it_is_up() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = format!("zookeeper://{}?session_timeout=20s&timeout=1s", proxy.address());
    let mut url = ConnectUrl::parse(&url).unwrap();
    url.take("timeout");
    let backend = DRIVER.open(url).await.unwrap();
    let locks: Arc<dyn LockProvider> =
        Arc::new(Engine::new(backend, EngineOptions::default()).unwrap());
    let other = connect(&server.url()).await.unwrap();
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    proxy.set(Weather::Down);
    drop(held);
    tokio::time::sleep(ms(300)).await;
    assert!(!is_free(&other, "a").await);
    proxy.set(Weather::Fair);
    // Long before the session would end.
    let freed = other.lock("a", &LockOptions::new().wait(ms(6000))).await;
    freed.unwrap().unlock().await.unwrap();
}

#[tokio::test]
async fn nodes_of_a_user_are_closed_to_others_and_the_password_is_never_shown() {
    let server = Server::start();
    let url = format!("zookeeper://ann:s3cret@{}/team/locks?{SHORT}", server.address());
    let locks = connect(&url).await.unwrap();
    let _held = locks.lock("a", &LockOptions::new()).await.unwrap();
    let ann = Client::connector().with_auth("digest", b"ann:s3cret");
    let ann = ann.connect(&server.address()).await.unwrap();
    let contender = ann.list_children("/team/locks/a").await.unwrap().remove(0);
    let path = format!("/team/locks/a/{contender}");
    let stranger = Client::connect(&server.address()).await.unwrap();
    assert_eq!(stranger.delete(&path, None).await, Err(ZkError::NoAuth));
    let url = format!("zookeeper://bob:hunter2@{}/team/locks?{SHORT}", server.address());
    let error = match connect(&url).await {
        Ok(locks) => locks.lock("a", &LockOptions::new()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!format!("{error} {error:?} {locks:?}").contains("s3cret"));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn fences_go_on_from_a_base_that_is_set_once() {
    let server = Server::start();
    let plain = connect(&server.url()).await.unwrap();
    let low = plain.lock("a", &LockOptions::new()).await.unwrap();
    assert!(low.fence().get() < 1_000_000);
    low.unlock().await.unwrap();
    let base = 1_790_000_000_000_000_u64;
    for url in [format!("{}&fence_base={base}", server.url()), server.url()] {
        let locks = connect(&url).await.unwrap();
        let high = locks.lock("a", &LockOptions::new()).await.unwrap();
        assert!(high.fence().get() > base, "{url}");
        high.unlock().await.unwrap();
    }
    let error = connect(&format!("{}&fence_base=7", server.url())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(plain.list("").await.is_ok());
}

#[tokio::test]
async fn a_session_with_many_waiters_reconnects_once() {
    const COUNT: usize = 300;
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await.unwrap();
    let url = format!("zookeeper://{}?session_timeout=20s", proxy.address());
    let (waiting, holding) = (connect(&url).await.unwrap(), connect(&server.url()).await.unwrap());
    let other = Client::connect(&server.address()).await.unwrap();
    let key = |n: usize| format!("{n}{}", "-".repeat(450));
    let now = LockOptions::new();
    let keys: Vec<_> = (0..COUNT).map(key).collect();
    let held = join_all(keys.iter().map(|key| holding.lock(key, &now))).await;
    let mut tasks = tokio::task::JoinSet::new();
    for key in keys.clone() {
        let (locks, wait) = (waiting.clone(), LockOptions::new().wait(ms(60_000)));
        tasks.spawn(async move { locks.lock(&key, &wait).await.unwrap().unlock().await });
    }
    for key in &keys {
        let path = format!("/{key}");
        while other.list_children(&path).await.unwrap().len() < 2 {
            tokio::time::sleep(ms(10)).await;
        }
    }
    // Time to arm the last hint.
    tokio::time::sleep(ms(500)).await;
    let before = proxy.connections();
    proxy.set(Weather::Down);
    tokio::time::sleep(ms(200)).await;
    proxy.set(Weather::Fair);
    tokio::time::sleep(ms(1000)).await;
    assert_eq!(proxy.connections() - before, 1);
    for released in join_all(held.into_iter().map(|guard| guard.unwrap().unlock())).await {
        released.unwrap();
    }
    // Long before the session would end, also those for whom there was no room.
    let all = timeout(ms(9000), tasks.join_all()).await.unwrap();
    assert!(all.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_stale_fence_writes_nothing() {
    let server = Server::start();
    let locks = connect(&server.url()).await.unwrap();
    let zk = Client::connect(&server.address()).await.unwrap();
    let node = CreateMode::Persistent.with_acls(Acls::anyone_all());
    for path in ["/fence", "/stock"] {
        zk.create(path, b"", &node).await.unwrap();
    }
    let old = locks.lock("a", &LockOptions::new()).await.unwrap();
    let stale = old.fence();
    old.unlock().await.unwrap();
    let new = locks.lock("a", &LockOptions::new()).await.unwrap();
    let write = async |fence, text: &'static [u8]| {
        write_fenced(&zk, "/fence", fence, |write| write.add_set_data("/stock", text, None)).await
    };
    write(stale, b"0").await.unwrap();
    write(new.fence(), b"1").await.unwrap();
    write(new.fence(), b"2").await.unwrap();
    assert_eq!(write(stale, b"3").await.unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(zk.get_data("/stock").await.unwrap().0, b"2");
}

#[tokio::test]
async fn a_url_that_cannot_be_right_is_refused() {
    let rows = [
        ("zookeeper:", "name the servers"),
        ("zookeeper://h/a/../b", "chroot"),
        ("zookeeper://ann@h", "password"),
        ("zookeeper://h?auth=digest", "user"),
        ("zookeeper://h?acl=creator", "user"),
        ("zookeeper://h?sesion_timeout=1s", "session_timeout"),
        ("zookeeper://h?session_timeout=0", "above 0"),
        ("zookeeper://h?session_timeout=1ms", "must be at least 100ms"),
        ("zookeeper://h/zookeeper", "the servers' own"),
        ("zookeeper://h/zookeeper/locks", "the servers' own"),
        ("zookeeper://h?recipe=java", "recipe"),
        ("zookeeper://h?fence_base=-1", "fence_base"),
        ("zookeeper://h?tls_ca=/nothing", "cannot be read"),
        #[cfg(not(feature = "tls"))]
        ("zookeeper://h?tls=true", "feature tls"),
        #[cfg(not(feature = "sasl"))]
        ("zookeeper://ann:pw@h?auth=sasl", "feature sasl"),
    ];
    for (url, hint) in rows {
        let error = connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}: {error}");
        assert!(error.to_string().contains(hint), "{url}: {error}");
    }
}

#[cfg(feature = "sasl")]
#[tokio::test]
async fn a_user_of_sasl_has_nodes_of_its_own_and_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let text = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required\n\
                user_ann=\"s3cret\" user_bob=\"hunter2\"; };\n";
    std::fs::write(&users, text).unwrap();
    let server = Server::start_with(
        &[&format!("-Djava.security.auth.login.config={}", users.display())],
        "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider\n",
    );
    let url =
        |login: &str| format!("zookeeper://{login}@{}/team?auth=sasl&{SHORT}", server.address());
    let locks = connect(&url("ann:s3cret")).await.unwrap();
    let held = locks.lock("a", &LockOptions::new()).await.unwrap();
    assert!(!is_free(&locks, "a").await);
    let stranger = Client::connect(&server.address()).await.unwrap();
    assert_eq!(stranger.list_children("/team/a").await, Err(ZkError::NoAuth));
    // Whom the server does not know, and whom it knows but not as the owner of the nodes.
    for login in ["ann:wr0ng", "bob:hunter2"] {
        let error = match connect(&url(login)).await {
            Ok(locks) => locks.lock("a", &LockOptions::new()).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Config, "{login}: {error}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
    }
    held.unlock().await.unwrap();
}

#[tokio::test]
async fn a_contender_that_may_not_be_read_costs_no_other_its_lock() {
    let server = Server::start();
    let locks = connect(&server.url()).await.unwrap();
    let hidden = locks.lock("hidden", &LockOptions::new()).await.unwrap();
    let other = locks.lock("other", &LockOptions::new()).await.unwrap();
    let stranger = Client::connect(&server.address()).await.unwrap();
    let name = stranger.list_children("/hidden").await.unwrap().remove(0);
    let nobody = [Acl::new(Permission::ADMIN, AuthId::anyone())];
    stranger.set_acl(&format!("/hidden/{name}"), &nobody, None).await.unwrap();
    timeout(ms(20_000), hidden.lost()).await.unwrap();
    tokio::time::sleep(ms(1000)).await;
    other.unlock().await.unwrap();
}
