#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Broker, agents, command line and image transfer over TLS with a throw-away CA; whoever trusts
# another CA, or speaks plain HTTP, gets nowhere.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
requires root namespaces criu curl jq certtool

# certificate NAME ADDRESS: signed by the CA in $SITE_TLS
certificate() {
    certtool --generate-privkey --key-type ecdsa --outfile "$SITE_TLS/$1.key" 2>/dev/null
    printf 'cn = "%s"\nip_address = "%s"\ndns_name = "%s"\ntls_www_server\ntls_www_client\nsigning_key\nexpiration_days = 2\n' \
        "$1" "$2" "$1" >"$SITE_TLS/$1.template"
    certtool --generate-certificate --load-privkey "$SITE_TLS/$1.key" --template "$SITE_TLS/$1.template" \
        --load-ca-certificate "$SITE_TLS/ca.pem" --load-ca-privkey "$SITE_TLS/ca.key" \
        --outfile "$SITE_TLS/$1.pem" 2>/dev/null
}
authority() {
    mkdir -p "$1"
    certtool --generate-privkey --key-type ecdsa --outfile "$1/ca.key" 2>/dev/null
    printf 'cn = "%s"\nca\ncert_signing_key\nexpiration_days = 2\n' "$2" >"$1/ca.template"
    certtool --generate-self-signed --load-privkey "$1/ca.key" --template "$1/ca.template" \
        --outfile "$1/ca.pem" 2>/dev/null
}

SITE_TLS=$TEST_DIR/tls
authority "$SITE_TLS" "test CA"
authority "$TEST_DIR/other" "another CA"
certificate broker "$SITE_HUB_ADDRESS"
certificate node-a "$SITE_SUBNET.11"
certificate node-b "$SITE_SUBNET.12"

fleet_up
step "the broker serves https, and plain http gets nothing"
case $(broker_url) in https:*) ;; *) fail "the broker's URL is $(broker_url)" ;; esac
(hub_exec curl -s --max-time 5 -o /dev/null "http://$SITE_HUB_ADDRESS:7070/healthz") && fail "plain http is answered"
(hub_exec curl -s --max-time 5 -o /dev/null --cacert "$TEST_DIR/other/ca.pem" "$(broker_url)/healthz") &&
    fail "curl trusts another CA"

step "a workload moves, image and all, over TLS"
victim_start node-a w1
moved w1 node-b
victim_goes_on node-b w1
moved w1 node-a
victim_goes_on node-a w1
victim_whole node-a w1

step "the image listener speaks TLS only"
(node_exec node-a curl -s --max-time 5 -o /dev/null "http://$SITE_SUBNET.12:7072/") && fail "plain http is answered"
(node_exec node-a curl -s --max-time 5 -o /dev/null --cacert "$SITE_TLS/ca.pem" "https://$SITE_SUBNET.12:7072/") ||
    fail "https is not answered"

step "the command line with another CA: cannot reach the broker"
status=0
(hub_exec env CPUBROKER_URL="$(broker_url)" CPUBROKER_TOKEN_FILE="$(operator_token_file)" \
    "$(cpubroker_program)" nodes --ca-file "$TEST_DIR/other/ca.pem" >"$TEST_DIR/out" 2>&1) || status=$?
same "exit status ($(head -n 1 "$TEST_DIR/out"))" 3 $status

step "an agent with another CA never gets to the broker"
agent_stop node-b
sed -i "s|^tls_ca = .*|tls_ca = $TEST_DIR/other/ca.pem|" "$SITE_DIR/nodes/node-b/state/cpuagent.conf"
before=$(api GET /v1/nodes/node-b | jq .seen_at_ms)
agent_start node-b
sleep 3
same "the last heartbeat of node-b" "$before" "$(api GET /v1/nodes/node-b | jq .seen_at_ms)"
