# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# fleet.sh - a broker in the hub and an agent in each node of a site; sourced after nodes.sh.
#
# The caller sets SITE_BUILD (a build folder) and SITE_CRIU (a CRIU that works here), and may set
# SITE_TLS (a folder with ca.pem, broker.pem, broker.key and NODE.pem, NODE.key).

: "${SITE_TLS:=}"

cpubroker_program() { echo "$SITE_BUILD/broker/cpubroker"; }
cpuagent_program() { echo "$SITE_BUILD/agent/cpuagent"; }

broker_url() { echo "http${SITE_TLS:+s}://$SITE_HUB_ADDRESS:7070"; }
operator_token_file() { echo "$SITE_DIR/broker/state/operator.token"; }

# broker_configure [LINE...]: writes the broker's configuration; LINEs are added.
broker_configure() {
    mkdir -p "$SITE_DIR/broker/state"
    chmod 700 "$SITE_DIR/broker/state"
    {
        echo "listen = $SITE_HUB_ADDRESS:7070"
        echo "state_dir = $SITE_DIR/broker/state"
        if [ -n "$SITE_TLS" ]; then
            echo "tls_cert = $SITE_TLS/broker.pem"
            echo "tls_key = $SITE_TLS/broker.key"
        else
            # the hub has no way out: whoever can read this wire is root here already
            echo "allow_plain_http = true"
        fi
        [ $# -eq 0 ] || printf '%s\n' "$@"
    } >"$SITE_DIR/broker/cpubroker.conf"
}

broker_start() {
    (hub_exec setsid "$(cpubroker_program)" serve --config "$SITE_DIR/broker/cpubroker.conf" \
        </dev/null >>"$SITE_DIR/broker/broker.log" 2>&1) &
    pid_record "$SITE_DIR/broker/pid" $!
    disown $!
    wait_until 20 broker_ready ||
        site_fail "the broker is not ready after 20 s: $(tail -n 1 "$SITE_DIR/broker/broker.log")"
}

broker_ready() {
    (hub_exec curl -s -f -o /dev/null --max-time 5 ${SITE_TLS:+--cacert "$SITE_TLS/ca.pem"} \
        "$(broker_url)/readyz") && [ -s "$(operator_token_file)" ]
}

# broker_stop [SIGNAL]: ends the broker and waits for its end.
broker_stop() { recorded_stop "$SITE_DIR/broker/pid" "${1:-TERM}"; }

recorded_stop() {
    local pid
    pid=$(pid_recorded "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null || true
    wait_until 30 recorded_gone "$1" || site_fail "process $pid does not end on SIG$2"
}
recorded_gone() {
    local pid
    pid=$(pid_recorded "$1") || return 0
    # a zombie that nobody has reaped yet has ended as well
    grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# wait_until SECONDS CMD...: until CMD succeeds; 1 when the time is up.
wait_until() {
    local limit=$((SECONDS + $1 + 1))
    shift
    until "$@"; do
        [ $SECONDS -lt $limit ] || return 1
        sleep 0.05
    done
}

# cb ARG...: the cpubroker command line, as an operator.
cb() {
    (hub_exec env CPUBROKER_URL="$(broker_url)" CPUBROKER_TOKEN_FILE="$(operator_token_file)" \
        ${SITE_TLS:+CPUBROKER_CA_FILE="$SITE_TLS/ca.pem"} "$(cpubroker_program)" "$@")
}

# ca NODE ARG...: the cpuagent command line on that node.
ca() {
    local node=$1
    shift
    (node_exec "$node" "$(cpuagent_program)" "$@")
}

# api METHOD PATH [BODY]: the reply's body; its status in $SITE_DIR/status.
api() { api_as "$(operator_token_file)" "$@"; }
# api_as TOKEN_FILE METHOD PATH [BODY]; the token goes by stdin, where `ps` does not show it.
api_as() {
    local token_file=$1 method=$2 path=$3 body=${4-}
    (hub_exec curl -sS --max-time 60 ${SITE_TLS:+--cacert "$SITE_TLS/ca.pem"} -X "$method" \
        ${body:+-H 'Content-Type: application/json' --data-binary "$body"} \
        -w '%{stderr}%{http_code}' -K - "$(broker_url)$path" 2>"$SITE_DIR/status" \
        <<<"header = \"Authorization: Bearer $(cat "$token_file")\"")
}
api_status() { tail -c 3 "$SITE_DIR/status"; }

# agent_configure NODE [LINE...]: makes the node's token if it has none, writes its configuration.
agent_configure() {
    local node=$1 state=$SITE_DIR/nodes/$1/state
    shift
    if [ ! -s "$state/token" ]; then
        (umask 077 && cb token create --role agent --node "$node" -o json | jq -r .token >"$state/token")
        [ -s "$state/token" ] || site_fail "the broker made no token for $node"
    fi
    {
        echo "node = $node"
        echo "broker_url = $(broker_url)"
        echo "token_file = $SITE_DIR/state/token"
        echo "state_dir = $SITE_DIR/state"
        echo "listen = $(node_address "$node"):7072"
        echo "cgroup_parent = $SITE_NAME/$node"
        echo "criu = $SITE_CRIU"
        if [ -n "$SITE_TLS" ]; then
            echo "tls_ca = $SITE_TLS/ca.pem"
            echo "tls_cert = $SITE_TLS/$node.pem"
            echo "tls_key = $SITE_TLS/$node.key"
        else
            echo "allow_plain_http = true"
        fi
        [ $# -eq 0 ] || printf '%s\n' "$@"
    } >"$state/cpuagent.conf"
}

agent_start() {
    local node=$1 dir=$SITE_DIR/nodes/$1
    (node_exec "$node" setsid "$(cpuagent_program)" serve --config "$SITE_DIR/state/cpuagent.conf" \
        </dev/null >>"$dir/agent.log" 2>&1) &
    agent_record "$node" $!
    disown $!
}
# nsenter forks to enter a pid namespace, so the agent is a child of the process that was started;
# until it has become cpuagent it is something else on the way there.
agent_record() {
    local child children=() tries program
    program=$(readlink -f "$(cpuagent_program)")
    for ((tries = 0; tries < 500; tries++)); do
        read -ra children 2>/dev/null <"/proc/$2/task/$2/children" || true
        for child in "${children[@]}"; do
            [ "$(readlink "/proc/$child/exe")" != "$program" ] || {
                pid_record "$SITE_DIR/nodes/$1/agent.pid" "$child"
                return
            }
        done
        sleep 0.02
    done
    site_fail "the agent of $1 did not start: $(tail -n 1 "$SITE_DIR/nodes/$1/agent.log")"
}
agent_stop() { recorded_stop "$SITE_DIR/nodes/$1/agent.pid" "${2:-TERM}"; }

# agent_wait_live NODE: until the broker has its report and its heartbeat.
agent_wait_live() {
    wait_until 30 agent_live "$1" ||
        site_fail "$1 is not live after 30 s: $(tail -n 1 "$SITE_DIR/nodes/$1/agent.log")"
}
agent_live() {
    api GET "/v1/nodes/$1" | jq -e '.status == "live" and .report_sha256 != null' >/dev/null 2>&1
}

# events MIGRATION SECONDS: its server-sent events until it is over, at most for SECONDS.
events() {
    (hub_exec curl -sSN --max-time "$2" ${SITE_TLS:+--cacert "$SITE_TLS/ca.pem"} \
        -K - "$(broker_url)/v1/migrations/$1/events" \
        <<<"header = \"Authorization: Bearer $(cat "$(operator_token_file)")\"")
}

# workload_file NODE WORKLOAD FILE: where a file of a workload's folder lies, seen from outside.
workload_file() { echo "$SITE_DIR/nodes/$1/state/workloads/$2/$3"; }
