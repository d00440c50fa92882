//! Whether what was sold was there, and what customers were told is so.

use std::collections::BTreeSet;

use super::customers::Told;
use super::store::Article;
use crate::story::Result;
use crate::story::Story;

/// Compares the stock and the orders, as the database has them, with what there was and with what was confirmed.
pub(super) fn audit(
    story: &Story,
    there_was: i64,
    stock: &[Article],
    orders: &[String],
    told: &Told,
) -> Result {
    let oversold: i64 = stock.iter().map(|it| (it.sold - there_was).max(0)).sum();
    let wrong: i64 = stock.iter().map(|it| (there_was - it.sold - it.left).abs()).sum();
    let sold: i64 = stock.iter().map(|it| it.sold).sum();
    let known: BTreeSet<&String> = orders.iter().collect();
    let missing = told.confirmed.iter().filter(|id| !known.contains(id)).count();
    for (name, figure) in [
        ("requests", told.requests().to_string()),
        ("orders confirmed (201)", told.confirmed.len().to_string()),
        ("orders written", orders.len().to_string()),
        ("articles sold", format!("{sold} of {}", there_was * stock.len() as i64)),
        ("sold out (409)", (told.times(409) - told.stale).to_string()),
        ("overtaken, refused (409)", told.stale.to_string()),
        ("locked by others (423)", told.times(423).to_string()),
        ("locks not to be had (503)", told.times(503).to_string()),
        ("other answers", told.times_other(&[0, 201, 409, 423, 503]).to_string()),
        ("no answer", told.times(0).to_string()),
        ("oversold", oversold.to_string()),
        ("lost from the stock's count", wrong.to_string()),
    ] {
        story.line(format!("{name:<30}{figure:>14}"));
    }
    story.check(oversold == 0 && wrong == 0, "no article is sold that was not there")?;
    story.check(missing == 0, "every confirmed order is written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(left: i64, sold: i64, orders: &[&str], confirmed: &[&str]) -> String {
        let stock = [Article { sku: "sku-0".into(), left, sold }];
        let owned = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        let told = Told { confirmed: owned(confirmed), ..Told::default() };
        let judged = audit(&Story::begin("audit"), 10, &stock, &owned(orders), &told);
        judged.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_fault_is_found() {
        // An order may be written whose confirmation was lost.
        assert_eq!(judged(8, 2, &["a", "b"], &["a"]), "");
        assert!(judged(0, 11, &["a"], &["a"]).ends_with("sold that was not there"));
        assert!(judged(9, 2, &["a", "b"], &["a"]).ends_with("sold that was not there"));
        assert!(judged(8, 2, &["b"], &["a"]).ends_with("confirmed order is written"));
    }
}
