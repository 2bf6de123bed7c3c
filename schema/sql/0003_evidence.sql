-- SPDX-License-Identifier: Apache-2.0
-- What looks at live workloads showed.

-- The source's look before it froze anything (cpubroker.evidence/1); NULL until then.
ALTER TABLE migration ADD COLUMN evidence TEXT;

-- The latest look at each workload since it was born; the evidence itself is the migration's.
CREATE TABLE workload_evidence (
    workload    TEXT PRIMARY KEY REFERENCES workload (name) ON DELETE CASCADE,
    migration   TEXT NOT NULL REFERENCES migration (id) ON DELETE CASCADE,
    node        TEXT NOT NULL, -- where it was taken
    boot_id     TEXT,          -- that node's, then
    taken_at_ms INTEGER NOT NULL,
    moved_on    INTEGER NOT NULL DEFAULT 0 CHECK (moved_on IN (0, 1)) -- the workload left the node
) STRICT, WITHOUT ROWID;

CREATE INDEX workload_evidence_by_migration ON workload_evidence (migration);

CREATE TRIGGER workload_is_born_anew AFTER UPDATE OF created_at_ms ON workload
BEGIN
    DELETE FROM workload_evidence WHERE workload = new.name;
END;

CREATE TRIGGER workload_moves_on AFTER UPDATE OF node ON workload WHEN new.node <> old.node
BEGIN
    UPDATE workload_evidence SET moved_on = 1 WHERE workload = new.name;
END;
