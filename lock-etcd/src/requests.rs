//! What is sent to the server: each transaction, with what it is for.

use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::GetOptions;
use etcd_client::PutOptions;
use etcd_client::Txn;
use etcd_client::TxnOp;
use lock_core::Claim;
use lock_core::LockKey;

use crate::keys;
use crate::line;

/// How many keys one answer may have: 4 MB hold them, whatever their length.
pub(crate) const PAGE: i64 = 1000;

/// How many steps one transaction may have; a server takes 128 unless it is told otherwise.
pub(crate) const STEPS: usize = 100;

/// Takes a lock below which there is nothing at all; else looks at its line.
pub(crate) fn take_free(claim: &Claim, own: &[u8], lease: i64) -> Txn {
    take_if(claim, own, lease, CompareOp::Equal, 0)
}

/// Takes a lock if nothing has come to its line since it was looked at; else looks again.
pub(crate) fn take_unchanged(claim: &Claim, own: &[u8], lease: i64, seen: i64) -> Txn {
    take_if(claim, own, lease, CompareOp::Less, seen + 1)
}

fn take_if(claim: &Claim, own: &[u8], lease: i64, op: CompareOp, revision: i64) -> Txn {
    let (from, to) = keys::range(&claim.key);
    Txn::new()
        .when([
            Compare::create_revision(from, op, revision).with_range(to),
            not_given_up(claim, lease),
        ])
        .and_then([put(claim, own, lease)])
        .or_else([look(&claim.key)])
}

/// Asks whether it is the turn of a claim that came with `revision` and hangs on the lease `from`: if nothing
/// came before it, its key moves to `lease`; else looks at the line.
pub(crate) fn turn(claim: &Claim, own: &[u8], from: i64, lease: i64, revision: i64) -> Txn {
    let (begins, ends) = keys::range(&claim.key);
    let first = Compare::create_revision(begins, CompareOp::Greater, revision - 1).with_range(ends);
    Txn::new()
        .when([first, is_same(own, revision), hangs_on(own, from)])
        .and_then([put(claim, own, lease)])
        .or_else([look(&claim.key)])
}

/// Takes a lock below which there is nothing at all; else stands in its line on a lease of its own kind,
/// unless the claim does so already, on whatever lease, and looks at the line.
pub(crate) fn take_or_join(claim: &Claim, own: &[u8], lease: i64, short: i64) -> Txn {
    let (from, to) = keys::range(&claim.key);
    let empty = Compare::create_revision(from, CompareOp::Equal, 0).with_range(to);
    let join = Txn::new()
        .when([is_same(own, 0), not_given_up(claim, short)])
        .and_then([put(claim, own, short)]);
    Txn::new()
        .when([empty, not_given_up(claim, lease)])
        .and_then([put(claim, own, lease)])
        .or_else([TxnOp::txn(join), look(&claim.key)])
}

/// Moves a key from one lease to another, if it is still the one that came with `revision`; else looks at it.
///
/// A move that comes late, after others, must not take the key to a lease that nobody renews for it.
pub(crate) fn move_to(claim: &Claim, own: &[u8], from: i64, lease: i64, revision: i64) -> Txn {
    Txn::new()
        .when([is_same(own, revision), hangs_on(own, from)])
        .and_then([put(claim, own, lease)])
        .or_else([find(own)])
}

/// Deletes a key, if it is still the one that came with `revision`.
pub(crate) fn delete(key: &[u8], revision: i64) -> Txn {
    Txn::new().when([is_same(key, revision)]).and_then([TxnOp::delete(key, None)])
}

/// Deletes the claim's key, whenever it came.
pub(crate) fn delete_any(own: &[u8]) -> Txn {
    let there = Compare::create_revision(own, CompareOp::Greater, 0);
    Txn::new().when([there]).and_then([TxnOp::delete(own, None)])
}

/// Deletes the claim's key, and marks the claim as given up, so that an attempt that is still under way
/// does nothing. The mark lives as long as the lease which that attempt would use.
pub(crate) fn delete_and_give_up(claim: &Claim, own: &[u8], lease: i64) -> Txn {
    let options = PutOptions::new().with_lease(lease);
    let mark = TxnOp::put(keys::given_up(claim, lease), "", Some(options));
    let there = Compare::create_revision(own, CompareOp::Greater, 0);
    let delete = TxnOp::delete(own, None);
    Txn::new().when([there]).and_then([delete, mark.clone()]).or_else([mark])
}

/// Reads the line of a lock, or its first page.
pub(crate) fn look(key: &LockKey) -> TxnOp {
    let (from, to) = keys::range(key);
    TxnOp::get(from, Some(page(to)))
}

/// Reads whether the claim's own key is there.
pub(crate) fn find(own: &[u8]) -> TxnOp {
    TxnOp::get(own, Some(GetOptions::new().with_keys_only()))
}

pub(crate) fn page(to: Vec<u8>) -> GetOptions {
    GetOptions::new().with_range(to).with_limit(PAGE)
}

fn put(claim: &Claim, own: &[u8], lease: i64) -> TxnOp {
    TxnOp::put(own, line::value(claim), Some(PutOptions::new().with_lease(lease)))
}

fn is_same(key: &[u8], revision: i64) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, revision)
}

fn hangs_on(own: &[u8], lease: i64) -> Compare {
    Compare::lease(own, CompareOp::Equal, lease)
}

fn not_given_up(claim: &Claim, lease: i64) -> Compare {
    Compare::create_revision(keys::given_up(claim, lease), CompareOp::Equal, 0)
}
