-- What lock-postgres keeps, version 1. A lock itself is an advisory lock; these tables say whose it is.
BEGIN;
-- Many may come at once, and each waits for those before it.
SET LOCAL lock_timeout = '10s';
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('{name} schema', 3));
CREATE SCHEMA IF NOT EXISTS {schema};

-- One row for each key: its last fence, and who took it exclusively last. Whether that one still holds it
-- only the advisory lock tells. Room in the pages keeps updates from growing the index.
CREATE TABLE IF NOT EXISTS {schema}.holders (
  lock_key text COLLATE "C" PRIMARY KEY, num bigint NOT NULL,
  fence bigint NOT NULL CHECK (fence BETWEEN 1 AND 9007199254740991),
  token text NOT NULL, owner text NOT NULL, pid integer NOT NULL, session integer NOT NULL,
  acquired_at timestamptz NOT NULL, evicted boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS holders_num ON {schema}.holders (num);
CREATE INDEX IF NOT EXISTS holders_evicted ON {schema}.holders (lock_key) WHERE evicted;

-- All other claims: with a fence they hold in a shared mode, without one they stand in line.
CREATE TABLE IF NOT EXISTS {schema}.claims (
  lock_key text COLLATE "C" NOT NULL, token text NOT NULL,
  place bigint GENERATED ALWAYS AS IDENTITY, num bigint NOT NULL, mode text NOT NULL,
  fence bigint CHECK (fence BETWEEN 1 AND 9007199254740991),
  owner text NOT NULL, pid integer NOT NULL, session integer NOT NULL,
  acquired_at timestamptz NOT NULL, evicted boolean NOT NULL DEFAULT false,
  PRIMARY KEY (lock_key, token)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS claims_num ON {schema}.claims (num);
CREATE INDEX IF NOT EXISTS claims_evicted ON {schema}.claims (lock_key) WHERE evicted;

-- The advisory locks of this database that are granted.
CREATE OR REPLACE VIEW {schema}.locked AS
  SELECT l.objsubid, l.classid::bigint AS high, l.objid::bigint AS low, l.pid, l.mode
  FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'advisory' AND l.granted
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database());

-- The sessions of lock-postgres that live. A process number comes again, with its mark it does not.
CREATE OR REPLACE VIEW {schema}.sessions AS
  SELECT pid, low AS session FROM {schema}.locked WHERE objsubid = 2 AND high = 1819239275;

-- Who holds what now. No key: somebody else's advisory lock. The server's locks are read once for all rows.
CREATE OR REPLACE VIEW {schema}.held AS
  WITH l AS MATERIALIZED (SELECT * FROM {schema}.locked),
  s AS MATERIALIZED (SELECT pid, low AS session FROM l WHERE objsubid = 2 AND high = 1819239275),
  n AS NOT MATERIALIZED (SELECT (high << 32) | low AS num, pid, mode FROM l WHERE objsubid = 1)
  SELECT n.num, n.pid, h.lock_key, h.token, 'exclusive' AS mode, h.fence, h.owner, h.acquired_at
  FROM n LEFT JOIN LATERAL (
    SELECT r.* FROM {schema}.holders r
    WHERE r.num = n.num AND r.pid = n.pid AND r.token <> ''
      AND EXISTS (SELECT FROM s WHERE s.pid = r.pid AND s.session = r.session)
    ORDER BY r.fence DESC LIMIT 1) h ON true
  WHERE n.mode = 'ExclusiveLock'
  UNION ALL
  SELECT n.num, n.pid, c.lock_key, c.token, coalesce(c.mode, 'shared'), c.fence, c.owner, c.acquired_at
  FROM n LEFT JOIN LATERAL (
    SELECT r.* FROM {schema}.claims r
    WHERE r.num = n.num AND r.pid = n.pid AND r.fence IS NOT NULL
      AND EXISTS (SELECT FROM s WHERE s.pid = r.pid AND s.session = r.session)) c ON true
  WHERE n.mode = 'ShareLock';

-- The same of some numbers only: planned by itself, and once for a session, it looks no further than them.
CREATE OR REPLACE FUNCTION {schema}.held_by(_nums bigint[]) RETURNS SETOF {schema}.held
  LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY SELECT v.* FROM {schema}.held v WHERE v.num = ANY (_nums);
END
$$;

-- Who stands in line now.
CREATE OR REPLACE VIEW {schema}.waiting AS
  SELECT c.lock_key, c.place, c.token, c.mode, c.owner, c.pid, c.acquired_at AS waits_since
  FROM {schema}.claims c JOIN {schema}.sessions s ON s.pid = c.pid AND s.session = c.session
  WHERE c.fence IS NULL;

-- Tells those who wait for a key: the head of the line by token, or everybody.
CREATE OR REPLACE FUNCTION {schema}.tell(_key text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('{name}', 'f' || coalesce(
    (SELECT string_agg(token, ',') FROM (
       SELECT token, mode, first_value(mode) OVER line AS head, row_number() OVER line AS at
       FROM {schema}.claims WHERE lock_key = _key AND fence IS NULL WINDOW line AS (ORDER BY place)) l
     WHERE at = 1 OR (head <> 'exclusive' AND mode = head AND at <= 64)), '') || ' ' || _key);
  RETURN 'told';
END
$$;

-- An attempt in a shared mode or with a line. One after the other decides for a key, each on what the one
-- before has committed. own: how this session holds the key's advisory lock already, which it would get again.
CREATE OR REPLACE FUNCTION {schema}.attempt(
  _key text, _token text, _mode text, _owner text, _queue boolean, _floor bigint,
  _pid integer, _session integer, _own text)
RETURNS TABLE (num bigint, fence bigint, clash text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  _num bigint := pg_catalog.hashtextextended(_key, 0);
  _of bigint := CASE WHEN _mode LIKE 'permits:%' THEN substr(_mode, 9)::bigint END;
  _mine {schema}.claims;
  _before bigint;
  _alike boolean;
  _fence bigint;
  _other text;
  _free boolean;
BEGIN
  PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(_key, 2));
  DELETE FROM {schema}.claims c WHERE c.lock_key = _key AND NOT EXISTS (
    SELECT FROM {schema}.sessions s WHERE s.pid = c.pid AND s.session = c.session);
  SELECT * INTO _mine FROM {schema}.claims c WHERE c.lock_key = _key AND c.token = _token;
  SELECT max(c.mode) INTO _other FROM {schema}.claims c
    WHERE c.lock_key = _key AND c.mode <> _mode
      AND (c.token = _token OR (_of IS NOT NULL AND c.mode LIKE 'permits:%'));
  IF _other IS NOT NULL THEN
    RETURN QUERY SELECT _num, NULL::bigint, _other;
    RETURN;
  END IF;
  SELECT count(*), coalesce(bool_and(c.mode = _mode), true) INTO _before, _alike
    FROM {schema}.claims c WHERE c.lock_key = _key AND c.token <> _token
      AND (c.fence IS NOT NULL OR _mine.place IS NULL OR c.place < _mine.place);
  _free := _before = 0 OR (_alike AND (_mode = 'shared' OR (_of IS NOT NULL AND _before < _of)));
  -- Readers that are not ours are no permits.
  IF _free AND _of IS NOT NULL THEN
    _free := NOT EXISTS (
      SELECT FROM {schema}.held_by(ARRAY[_num]) h WHERE h.lock_key IS DISTINCT FROM _key);
  END IF;
  IF _free THEN
    _free := CASE
      WHEN _own = 'exclusive' THEN false
      WHEN _mode <> 'exclusive' THEN
        CASE WHEN _own = 'shared' THEN true ELSE pg_catalog.pg_try_advisory_lock_shared(_num) END
      WHEN _own = 'shared' THEN false
      ELSE pg_catalog.pg_try_advisory_lock(_num) END;
  END IF;
  IF NOT _free THEN
    IF _queue OR _mine.place IS NOT NULL THEN
      INSERT INTO {schema}.claims (lock_key, token, num, mode, owner, pid, session, acquired_at)
      VALUES (_key, _token, _num, _mode, _owner, _pid, _session, clock_timestamp())
      ON CONFLICT (lock_key, token) DO NOTHING;
    END IF;
    RETURN QUERY SELECT _num, NULL::bigint, NULL::text;
    RETURN;
  END IF;
  INSERT INTO {schema}.holders AS h
    (lock_key, num, token, owner, pid, session, acquired_at, fence)
  VALUES (_key, _num, CASE WHEN _mode = 'exclusive' THEN _token ELSE '' END, _owner, _pid, _session,
    clock_timestamp(), greatest(_floor, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
  ON CONFLICT (lock_key) DO UPDATE SET fence = greatest(h.fence + 1, excluded.fence),
    token = excluded.token, owner = excluded.owner, pid = excluded.pid, session = excluded.session,
    acquired_at = excluded.acquired_at, evicted = false
  RETURNING h.fence INTO _fence;
  IF _mode = 'exclusive' THEN
    DELETE FROM {schema}.claims c WHERE c.lock_key = _key AND c.token = _token;
  ELSE
    INSERT INTO {schema}.claims AS c
      (lock_key, token, num, mode, fence, owner, pid, session, acquired_at)
    VALUES (_key, _token, _num, _mode, _fence, _owner, _pid, _session, clock_timestamp())
    ON CONFLICT (lock_key, token) DO UPDATE SET
      fence = excluded.fence, acquired_at = excluded.acquired_at, evicted = false;
  END IF;
  RETURN QUERY SELECT _num, _fence, NULL::text;
END
$$;

COMMENT ON SCHEMA {schema} IS 'lock-postgres 1';
COMMIT;
