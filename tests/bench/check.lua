-- SPDX-License-Identifier: Apache-2.0
-- wrk's request: POST /v1/check between two nodes, with the token in CPUBROKER_BENCH_TOKEN.
wrk.method = "POST"
wrk.body = '{"from":"node-1","to":"node-2"}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("CPUBROKER_BENCH_TOKEN")

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format("RESULT %.0f %d %d\n", summary.requests / summary.duration * 1e6,
        errors.status + errors.connect + errors.read + errors.write + errors.timeout,
        latency:percentile(99)))
end
