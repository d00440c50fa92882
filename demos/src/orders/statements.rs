//! SQL of the order service, as Postgres and SQLite both understand it.

/// The stock, and what was sold of it.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS stock (
        sku TEXT PRIMARY KEY, quantity BIGINT NOT NULL, fence BIGINT NOT NULL DEFAULT 0
    );
    CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, customer BIGINT NOT NULL);
    CREATE TABLE IF NOT EXISTS order_lines (
        order_id TEXT NOT NULL, sku TEXT NOT NULL, quantity BIGINT NOT NULL, fence BIGINT NOT NULL
    );";

pub(super) const FILL: &str = "INSERT INTO stock (sku, quantity) VALUES ($1, $2)";

/// Reads how much there is, and from here on refuses whoever has a lower fence.
///
/// Without the second half a holder that was overtaken could still write after this read, and this holder would then write
/// over it.
pub(super) const CLAIM: &str =
    "UPDATE stock SET fence = $1 WHERE sku = $2 AND fence <= $1 RETURNING quantity";

pub(super) const FENCE: &str = "SELECT fence FROM stock WHERE sku = $1";

/// Writes what is left, unless somebody has claimed it since.
pub(super) const WRITE: &str = "UPDATE stock SET quantity = $1 WHERE sku = $2 AND fence = $3";

pub(super) const ORDER: &str = "INSERT INTO orders (id, customer) VALUES ($1, $2)";

pub(super) const LINE: &str =
    "INSERT INTO order_lines (order_id, sku, quantity, fence) VALUES ($1, $2, $3, $4)";

pub(super) const ORDERS: &str = "SELECT id FROM orders";

/// What is left, and what was sold.
pub(super) const AUDIT: &str = "
    SELECT s.sku, s.quantity, CAST(COALESCE(SUM(l.quantity), 0) AS BIGINT)
    FROM stock s LEFT JOIN order_lines l ON l.sku = s.sku GROUP BY s.sku, s.quantity ORDER BY s.sku";
