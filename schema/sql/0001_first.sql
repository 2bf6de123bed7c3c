-- SPDX-License-Identifier: Apache-2.0
-- The broker's first schema. Times are Unix milliseconds. Never edited after a release: changes
-- are new numbered files.

-- What a node told about its CPUs: immutable, named by the SHA-256 of its canonical JSON.
CREATE TABLE report (
    sha256           TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    json             TEXT NOT NULL,
    first_seen_at_ms INTEGER NOT NULL
) STRICT;

CREATE TRIGGER report_is_immutable BEFORE UPDATE ON report
BEGIN
    SELECT RAISE(ABORT, 'a report is immutable');
END;

CREATE TABLE node (
    name          TEXT PRIMARY KEY,
    kind          TEXT NOT NULL CHECK (kind IN ('agent', 'imported')),
    report_sha256 TEXT REFERENCES report (sha256),
    version       TEXT,
    boot_id       TEXT,
    image_address TEXT,
    created_at_ms INTEGER NOT NULL,
    seen_at_ms    INTEGER -- written now and then: liveness is in memory
) STRICT;

CREATE TABLE pool (
    name          TEXT PRIMARY KEY,
    mix_vendors   INTEGER NOT NULL DEFAULT 0 CHECK (mix_vendors IN (0, 1)),
    created_at_ms INTEGER NOT NULL,
    min_level     TEXT CHECK (min_level LIKE 'x86-64-v_'),
    evidence      TEXT NOT NULL DEFAULT 'strict' CHECK (evidence IN ('strict', 'relax')),
    islands       TEXT NOT NULL DEFAULT 'warn' CHECK (islands IN ('refuse', 'warn', 'allow'))
) STRICT;

INSERT INTO pool (name, created_at_ms) VALUES ('default', unixepoch() * 1000);

CREATE TABLE pool_member (
    pool         TEXT NOT NULL REFERENCES pool (name) ON DELETE CASCADE,
    node         TEXT NOT NULL REFERENCES node (name) ON DELETE CASCADE,
    joined_at_ms INTEGER NOT NULL,
    PRIMARY KEY (pool, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX pool_member_by_node ON pool_member (node);

-- What a pool's mask was, each time it changed. `mask` is NULL for a pool without reports.
CREATE TABLE pool_epoch (
    pool          TEXT NOT NULL REFERENCES pool (name) ON DELETE CASCADE,
    epoch         INTEGER NOT NULL CHECK (epoch >= 1),
    digest        TEXT NOT NULL,
    mask          TEXT,
    members       TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (pool, epoch)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER pool_epoch_is_immutable BEFORE UPDATE ON pool_epoch
BEGIN
    SELECT RAISE(ABORT, 'an epoch is immutable');
END;

CREATE TABLE workload (
    name          TEXT PRIMARY KEY,
    pool          TEXT NOT NULL REFERENCES pool (name),
    node          TEXT NOT NULL REFERENCES node (name),
    state         TEXT NOT NULL CHECK (state IN ('starting', 'running', 'stopped', 'exited')),
    pid           INTEGER,
    exit_status   INTEGER,
    command       TEXT NOT NULL, -- JSON array of strings
    dir           TEXT,
    adopted       INTEGER NOT NULL CHECK (adopted IN (0, 1)),
    epoch         INTEGER NOT NULL, -- the pool's, at birth
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX workload_by_node ON workload (node);
CREATE INDEX workload_by_pool ON workload (pool);

-- The ledger: every report that a workload was exposed to since its birth, which is seq 1. Node
-- names stay when the node goes.
CREATE TABLE workload_seen (
    workload      TEXT NOT NULL REFERENCES workload (name) ON DELETE CASCADE,
    seq           INTEGER NOT NULL CHECK (seq >= 1),
    node          TEXT NOT NULL,
    report_sha256 TEXT NOT NULL REFERENCES report (sha256),
    since_at_ms   INTEGER NOT NULL,
    PRIMARY KEY (workload, seq),
    UNIQUE (workload, node, report_sha256)
) STRICT, WITHOUT ROWID;

CREATE INDEX workload_seen_by_report ON workload_seen (report_sha256);

-- Workload and node names here are history: they outlive what they name.
CREATE TABLE migration (
    id               TEXT PRIMARY KEY,
    workload         TEXT NOT NULL,
    from_node        TEXT NOT NULL,
    to_node          TEXT NOT NULL,
    state            TEXT NOT NULL,
    source_report    TEXT NOT NULL DEFAULT 'none',
    target_report    TEXT NOT NULL DEFAULT 'none',
    judged_sha256    TEXT NOT NULL, -- the target's report that the verdict was about
    ticket           TEXT,          -- only while the migration lives
    cancelled        INTEGER NOT NULL DEFAULT 0 CHECK (cancelled IN (0, 1)),
    idempotency_key  TEXT UNIQUE,
    requested_to     TEXT,          -- NULL when the broker chose
    verdict          TEXT NOT NULL,
    error            TEXT,
    bytes            INTEGER NOT NULL DEFAULT 0,
    total_bytes      INTEGER,
    created_at_ms    INTEGER NOT NULL,
    state_at_ms      INTEGER NOT NULL,
    dumping_at_ms    INTEGER,
    downtime_ms      INTEGER,
    finished_at_ms   INTEGER
) STRICT;

CREATE INDEX migration_by_time ON migration (created_at_ms, id);
CREATE INDEX migration_by_workload ON migration (workload, created_at_ms);
-- At most one migration of a workload is under way.
CREATE UNIQUE INDEX migration_under_way ON migration (workload) WHERE finished_at_ms IS NULL;

CREATE TABLE migration_event (
    migration TEXT NOT NULL REFERENCES migration (id) ON DELETE CASCADE,
    seq       INTEGER NOT NULL CHECK (seq >= 1),
    at_ms     INTEGER NOT NULL,
    kind      TEXT NOT NULL CHECK (kind IN ('phase', 'report', 'progress', 'error')),
    json      TEXT NOT NULL,
    PRIMARY KEY (migration, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    sha256        TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    id            TEXT NOT NULL UNIQUE,
    role          TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'agent', 'webhook')),
    node          TEXT,
    note          TEXT,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What happened to the fleet, newest kept. Names here are history, as those of migrations are.
CREATE TABLE fleet_event (
    seq      INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    node     TEXT,
    pool     TEXT,
    workload TEXT,
    json     TEXT NOT NULL
) STRICT;

-- Who is told of events. The secret signs what is sent, so it is kept as it is.
CREATE TABLE webhook (
    id            TEXT PRIMARY KEY,
    url           TEXT NOT NULL,
    secret        TEXT NOT NULL,
    events        TEXT, -- JSON array of kinds; NULL for all
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is to be told to whom; written together with what it tells of.
CREATE TABLE webhook_delivery (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook       TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    kind          TEXT NOT NULL,
    body          TEXT NOT NULL,
    state         TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
    tries         INTEGER NOT NULL DEFAULT 0,
    created_at_ms INTEGER NOT NULL,
    next_at_ms    INTEGER NOT NULL, -- of the next try
    settled_at_ms INTEGER,
    problem       TEXT -- of the latest try
) STRICT;

CREATE INDEX webhook_delivery_by_state ON webhook_delivery (webhook, state, id);
CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook, next_at_ms) WHERE state = 'pending';
