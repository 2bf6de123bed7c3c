-- SPDX-License-Identifier: Apache-2.0
-- What reports amount to and what workloads need, as records of their own.

-- What a process can see on a CPU, or has seen on several: immutable, named by the SHA-256 of its
-- canonical JSON (cpubroker.profile/1).
CREATE TABLE profile (
    sha256           TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    json             TEXT NOT NULL,
    first_seen_at_ms INTEGER NOT NULL
) STRICT;

CREATE TRIGGER profile_is_immutable BEFORE UPDATE ON profile
BEGIN
    SELECT RAISE(ABORT, 'a profile is immutable');
END;

-- What a broker needs of a report to begin its work, so that it need not read all of them. `rules`
-- says by which rules it was reckoned; under others it is reckoned anew from the report.
CREATE TABLE report_facts (
    report_sha256  TEXT PRIMARY KEY REFERENCES report (sha256) ON DELETE CASCADE,
    rules          TEXT NOT NULL,
    profile_sha256 TEXT NOT NULL REFERENCES profile (sha256),
    kernel         TEXT,
    engines        TEXT NOT NULL -- JSON: [{"name","version"}]
) STRICT, WITHOUT ROWID;

CREATE INDEX report_facts_by_profile ON report_facts (profile_sha256);
CREATE INDEX node_by_report ON node (report_sha256);

-- The need of a workload from this line of its ledger on: the profiles of all lines up to here,
-- joined. NULL in lines that an older cpubroker wrote, until the next start.
ALTER TABLE workload_seen ADD COLUMN need_sha256 TEXT REFERENCES profile (sha256);
ALTER TABLE workload_seen ADD COLUMN need_rules TEXT;

CREATE INDEX workload_seen_by_need ON workload_seen (need_sha256);

-- Until now it was read from the report at each start.
UPDATE node SET boot_id = (SELECT nullif(json_extract(json, '$.os.boot_id'), '') FROM report
    WHERE sha256 = report_sha256) WHERE boot_id IS NULL AND report_sha256 IS NOT NULL;
