//! Two names that differ in any byte are two locks.

use lock_core::Backend;
use lock_core::Error;
use lock_core::ErrorKind;
use lock_core::LockKey;
use lock_core::MAX_KEY_BYTES;

use crate::Cx;
use crate::Outcome;
use crate::case::cases;
use crate::cx::acquire;
use crate::cx::granted;
use crate::cx::refused;
use crate::failure::check;

cases! { "keys":
    "G9" "A2" that_differ_never_alias;
    "G9" "A2" keep_their_exact_bytes;
    "G9" "A2" may_be_as_long_as_allowed;
    "G9" "A2" that_are_long_differ_in_their_last_byte;
}

/// Each differs from its neighbour in a way that some store has folded.
const ODD: &[&str] = &[
    "job",
    "Job",
    "JOB",
    "job ",
    " job",
    "job\t",
    "job\n",
    "jo",
    "job:",
    "job/",
    "job/a",
    "/job",
    "job//a",
    "é",
    "e\u{301}",
    "e",
    "É",
    "ß",
    "ss",
    "ı",
    "i",
    "I",
    "🔒",
    "🔓",
    "a%",
    "a_",
    "ab",
    "a\\",
    "a\\\\",
    "a'",
    "a''",
    "a\"",
    "a`",
    "{job}",
    "{job}a",
    "}{",
    "job{",
    "a*",
    "a?",
    "[a]",
    "a;b",
    "a--",
    "0",
    "00",
    "1e0",
    "1",
    "null",
    "NULL",
    ".",
    "..",
    "a.b",
    "a\u{200b}b",
    "\u{7f}",
    "a\u{feff}",
    "%2F",
    "%2f",
    "~",
    "$1",
    "?1",
    ":a",
    "Ａ",
    "A",
    "ﬁ",
    "fi",
];

/// Says whether the store takes `key`; a refusal has to come before anything is sent.
async fn takes(client: &dyn Backend, key: &LockKey) -> Outcome<bool> {
    match client.profile().key_rule.check(key) {
        Ok(()) => Ok(true),
        Err(error) => unacceptable(&error).map(|()| false),
    }
}

fn unacceptable(error: &Error) -> Outcome {
    check!(error.kind() == ErrorKind::InvalidInput, "refused as {error:?}");
    Ok(())
}

async fn that_differ_never_alias(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let mut taken = Vec::new();
    for name in ODD {
        let claim = cx.claim(name);
        if takes(&*client, &claim.key).await? {
            let attempt = client.attempt(&claim).await?;
            check!(granted(attempt).is_ok(), "{name:?} is taken by one of {taken:?}");
            taken.push(name);
        }
    }
    for name in taken {
        refused(&*client, &cx.claim(name)).await?;
    }
    Ok(())
}

async fn keep_their_exact_bytes(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    let mut expected = Vec::new();
    for name in ODD {
        let claim = cx.claim(name);
        if takes(&*client, &claim.key).await? {
            acquire(&*client, &claim).await?;
            let state = client.inspect(&claim.key).await?;
            check!(state.key == claim.key.as_str() && state.is_locked(), "{name:?}: {state:?}");
            expected.push(state.key);
        }
    }
    expected.sort();
    let page = client.list(cx.namespace(), None, 1000).await?;
    let listed: Vec<_> = page.items.into_iter().map(|state| state.key).collect();
    check!(listed == expected, "listed {listed:?}, held {expected:?}");
    Ok(())
}

fn long(cx: &Cx, end: &str) -> String {
    "k".repeat(MAX_KEY_BYTES - cx.namespace().len() - end.len()) + end
}

async fn may_be_as_long_as_allowed(cx: Cx) -> Outcome {
    let (first, second) = (cx.client().await?, cx.client().await?);
    for end in ["", "é", "🔒"] {
        let name = long(&cx, end);
        let claim = cx.claim(&name);
        check!(claim.key.as_str().len() == MAX_KEY_BYTES, "{} bytes", claim.key.as_str().len());
        acquire(&*first, &claim).await?;
        refused(&*second, &cx.claim(&name)).await?;
        first.release(&claim).await?;
    }
    Ok(())
}

async fn that_are_long_differ_in_their_last_byte(cx: Cx) -> Outcome {
    let client = cx.client().await?;
    acquire(&*client, &cx.claim(&long(&cx, "1"))).await?;
    acquire(&*client, &cx.claim(&long(&cx, "2"))).await?;
    Ok(())
}
