//! One provider over two stores, for a move from one to the other.

use std::sync::Arc;

use lock_core::Clock;
use lock_core::Dual;
use lock_core::Engine;
use lock_core::LockProvider;
use lock_core::Member;
use lock_core::Result;
use lock_core::SharedBackend;

use crate::Config;
use crate::Io;
use crate::config::refused;
use crate::connect::late;
use crate::plan::Plan;

/// Connects to two stores and locks both, so that a service can move from one to the other without a
/// gap: the chapter on [migrating](crate::manual::migrating) tells how. The order does not matter.
///
/// `prefix`, `ttl`, `timeout` and `io` have to be the same in both URLs.
///
/// # Errors
///
/// As for [`connect`](crate::connect()) of either, and `Config` if the two cannot go together.
///
/// # Cancel safety
///
/// Dropping the future closes what was opened.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> lock::Result<()> {
/// let locks = lock::dual("memory:old?prefix=shop:", "memory:new?prefix=shop:").await?;
/// let guard = locks.lock("sku:123", &lock::LockOptions::new()).await?;
/// guard.unlock().await
/// # }
/// # #[cfg(not(feature = "memory"))] fn main() {}
/// ```
pub async fn dual(one: &str, other: &str) -> Result<Arc<dyn LockProvider>> {
    let plans = [one, other].map(|url| Plan::new(&Config::of_url(url)?));
    let [one, other] = plans;
    let (one, other) = (one?, other?);
    agree(&one, &other)?;
    let (options, io) = (one.engine_options(), one.io);
    let timeout = options.operation_timeout;
    let backend = open_both(one, other);
    let engine = async {
        match io {
            Some(Io::Thread) => Engine::connect(backend, options).await,
            None | Some(Io::Runtime) => Engine::new(backend.await?, options),
        }
    };
    let opened = tokio::select! {
        engine = engine => engine,
        () = Clock::system().sleep(timeout) => Err(late(timeout)),
    };
    let engine = opened.map_err(|error| error.in_context("connect", "dual", None))?;
    Ok(Arc::new(engine))
}

async fn open_both(one: Plan, other: Plan) -> Result<SharedBackend> {
    let names = [one.driver.name, other.driver.name];
    // Two of a kind are told apart by which they are.
    let same = names[0] == names[1];
    let [first, second] = [(0, "first"), (1, "second")].map(|(at, which)| {
        if same { format!("{which} {}", names[at]) } else { names[at].to_owned() }
    });
    let open = async |plan: Plan, name: &str| {
        let opened = plan.driver.open(plan.url).await;
        let backend =
            opened.map_err(|error| error.in_context("connect", plan.driver.name, None))?;
        Ok::<_, lock_core::Error>(Member::new(name, backend))
    };
    let one = open(one, &first).await?;
    let other = open(other, &second).await?;
    Ok(Arc::new(Dual::new(one, other)?))
}

/// What the engine acts upon can be said only once.
fn agree(one: &Plan, other: &Plan) -> Result<()> {
    let differs = [
        ("prefix", one.prefix != other.prefix),
        ("ttl", one.ttl != other.ttl),
        ("timeout", one.timeout != other.timeout),
        ("io", one.io != other.io),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        None if one.url == other.url => {
            Err(refused("both URLs of a dual are the same: name the old store and the new one"))
        }
        Some((key, _)) => Err(refused(format!(
            "query key {key:?} is not the same in both URLs of a dual: give both the same"
        ))),
        None => Ok(()),
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use lock_core::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn what_the_engine_acts_upon_has_to_be_the_same_in_both_urls() {
        for key in ["prefix=a:", "ttl=5s", "timeout=5s", "io=thread"] {
            let error = dual(&format!("memory:?{key}"), "memory:").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let name = key.split('=').next().unwrap_or_default();
            let told = format!(
                "query key {name:?} is not the same in both URLs of a dual: give both the same"
            );
            assert_eq!(error.to_string(), told);
            dual(&format!("memory:a?{key}"), &format!("memory:b?{key}")).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_same_url_twice_is_refused() {
        let error = dual("memory:a?prefix=x:", "memory:a?prefix=x:").await.unwrap_err();
        let told = "both URLs of a dual are the same: name the old store and the new one";
        assert_eq!(error.to_string(), told);
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_is_refused_as_by_connect() {
        let by_dual = dual("memory:", "memory:a/b").await.unwrap_err().to_string();
        assert_eq!(by_dual, crate::connect("memory:a/b").await.unwrap_err().to_string());
    }
}
