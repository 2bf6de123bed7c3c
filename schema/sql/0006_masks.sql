-- SPDX-License-Identifier: Apache-2.0
-- Under which mask a workload was born, how firmly it is held to it, and what is told of that.

ALTER TABLE workload ADD COLUMN mask_grade TEXT NOT NULL DEFAULT 'off'
    CHECK (mask_grade IN ('off', 'environment', 'detour', 'hardware'));
-- The pool's mask of the workload's epoch.
ALTER TABLE workload ADD COLUMN mask_sha256 TEXT REFERENCES profile (sha256)
    CHECK ((mask_sha256 IS NULL) = (mask_grade = 'off'));
-- What the agent told of it last: places that are masked, and how many of each kind are not, since
-- birth. NULL: nothing yet.
ALTER TABLE workload ADD COLUMN mask_sites INTEGER;
ALTER TABLE workload ADD COLUMN mask_lacks TEXT; -- JSON: {"hindered":4}
ALTER TABLE workload ADD COLUMN mask_told_on TEXT; -- the node
-- It has lived on a node that told nothing of it.
ALTER TABLE workload ADD COLUMN mask_gap INTEGER NOT NULL DEFAULT 0 CHECK (mask_gap IN (0, 1));

CREATE INDEX workload_by_mask ON workload (mask_sha256);

-- A line of the ledger says whether the workload was held to its mask there. One that was, and then
-- is not any more, has two lines for the same node.
CREATE TABLE workload_seen_now (
    workload      TEXT NOT NULL REFERENCES workload (name) ON DELETE CASCADE,
    seq           INTEGER NOT NULL CHECK (seq >= 1),
    node          TEXT NOT NULL,
    report_sha256 TEXT NOT NULL REFERENCES report (sha256),
    since_at_ms   INTEGER NOT NULL,
    need_sha256   TEXT REFERENCES profile (sha256),
    need_rules    TEXT,
    masked        INTEGER NOT NULL DEFAULT 0 CHECK (masked IN (0, 1)),
    PRIMARY KEY (workload, seq),
    UNIQUE (workload, node, report_sha256, masked)
) STRICT, WITHOUT ROWID;

INSERT INTO workload_seen_now
    SELECT workload, seq, node, report_sha256, since_at_ms, need_sha256, need_rules, 0
    FROM workload_seen;
DROP TABLE workload_seen;
ALTER TABLE workload_seen_now RENAME TO workload_seen;

CREATE INDEX workload_seen_by_report ON workload_seen (report_sha256);
CREATE INDEX workload_seen_by_need ON workload_seen (need_sha256);
