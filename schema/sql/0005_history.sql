-- SPDX-License-Identifier: Apache-2.0
-- Whether a migration refers to a report is asked for each one that is to go.

CREATE INDEX migration_by_judged ON migration (judged_sha256);
