-- SPDX-License-Identifier: Apache-2.0
-- Workloads whose node an operator took away by force: they count as exited, and their ledgers stay.

ALTER TABLE workload ADD COLUMN lost_at_ms INTEGER;

-- Such a node stays as a name, for the workloads to refer to, until it is back.
ALTER TABLE node ADD COLUMN removed_at_ms INTEGER;
