-- SPDX-License-Identifier: Apache-2.0
-- wrk's requests about a pool of many nodes, with the token in CPUBROKER_BENCH_TOKEN.
--   CPUBROKER_BENCH_ASK=masks    GET its masks
--   CPUBROKER_BENCH_ASK=members  one member after the other leaves and joins again
wrk.headers["Authorization"] = "Bearer " .. os.getenv("CPUBROKER_BENCH_TOKEN")
local ask = os.getenv("CPUBROKER_BENCH_ASK")
local nodes = tonumber(os.getenv("CPUBROKER_BENCH_NODES"))
local at, leaves = 0, false

function request()
    if ask == "masks" then
        return wrk.format("GET", "/v1/pools/default/masks")
    end
    leaves = not leaves
    if leaves then
        at = (at + 7919) % nodes
    end
    return wrk.format(leaves and "DELETE" or "PUT", string.format("/v1/pools/default/nodes/node-%06d", at))
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("RESULT %d %d %d %.0f\n", latency:percentile(50), latency:percentile(99),
        errors.status + errors.connect + errors.read + errors.write + errors.timeout,
        summary.bytes / summary.requests))
end
