//! What a backend's documents say of it is so.

use lock_core::Profile;

/// Checks that `documents` have a row `| fact | value |` for each fact of a profile.
///
/// # Panics
///
/// Names the row that is missing.
pub fn assert_documented(profile: &Profile, documents: &str) {
    let plan = profile.poll;
    let facts = [
        ("name", profile.name.to_owned()),
        ("lease", format!("{:?}", profile.lease)),
        ("fence", format!("{:?}", profile.fence)),
        ("ttl_min", format!("{:?}", profile.ttl_min)),
        ("granularity", format!("{:?}", profile.granularity)),
        ("native_queue", profile.native_queue.to_string()),
        ("fair", profile.fair.to_string()),
        ("shared", profile.shared.to_string()),
        ("permits", profile.permits.to_string()),
        ("wakeup", format!("{:?}", profile.wakeup)),
        ("watches_holders", profile.watches_holders.to_string()),
        ("poll", format!("{:?} for {:?}, up to {:?}", plan.first, plan.eager, plan.max)),
        ("batch", profile.batch.to_string()),
    ];
    for (fact, value) in facts {
        let row = format!("| {fact} | {value} |");
        assert!(documents.contains(&row), "missing: {row}");
    }
}
