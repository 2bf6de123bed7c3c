#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A client certificate of the authority in tls_client_ca opens the doors for orchestrators, and
# nothing else; another authority's, an expired one, or none opens nothing. A throw-away CA, a broker
# on loopback; needs neither root nor CRIU.
# shellcheck source=tests/lib/functions.sh
. "$(dirname "$0")/../lib/functions.sh"
# shellcheck source=tests/lib/loopback_broker.sh
. "$SOURCE_DIR/tests/lib/loopback_broker.sh"
requires curl jq certtool

TLS=$TEST_DIR/tls
# authority NAME
authority() {
    certtool --generate-privkey --key-type ecdsa --outfile "$TLS/$1.key" 2>/dev/null
    printf 'cn = "%s"\nca\ncert_signing_key\nexpiration_days = 2\n' "$1" >"$TLS/$1.template"
    certtool --generate-self-signed --load-privkey "$TLS/$1.key" --template "$TLS/$1.template" \
        --outfile "$TLS/$1.pem" 2>/dev/null
}
# certificate NAME AUTHORITY LINE...: of the template
certificate() {
    local name=$1 by=$2
    shift 2
    certtool --generate-privkey --key-type ecdsa --outfile "$TLS/$name.key" 2>/dev/null
    printf '%s\n' "cn = \"$name\"" signing_key "$@" >"$TLS/$name.template"
    certtool --generate-certificate --load-privkey "$TLS/$name.key" --template "$TLS/$name.template" \
        --load-ca-certificate "$TLS/$by.pem" --load-ca-privkey "$TLS/$by.key" --outfile "$TLS/$name.pem" 2>/dev/null
}

# start [LINE]...: of the configuration, besides TLS
start() {
    printf '%s\n' "listen = 127.0.0.1:0" "state_dir = $TEST_DIR/state" "tls_cert = $TLS/broker.pem" \
        "tls_key = $TLS/broker.key" "$@" >"$TEST_DIR/broker.conf"
    : >"$TEST_DIR/broker.log"
    "$BROKER" serve --config "$TEST_DIR/broker.conf" >"$TEST_DIR/broker.log" 2>&1 &
    BROKER_PID=$!
    eventually 20 loopback_broker_listens
    URL=https://$(loopback_address)
    OPERATOR=$(cat "$TEST_DIR/state/operator.token")
}
# ask STATUS METHOD PATH BODY [CURL-OPTION...]: the reply is in $TEST_DIR/reply. 000: no answer.
ask() {
    local expected=$1 method=$2 path=$3 body=$4 status
    shift 4
    : >"$TEST_DIR/reply"
    status=$(curl -s --max-time 10 --cacert "$TLS/ca.pem" -o "$TEST_DIR/reply" -w '%{http_code}' -X "$method" \
        ${body:+--data-binary "$body"} "$@" "$URL$path") || true
    [ "$status" = "$expected" ] || fail "$method $path ($*): expected $expected, got $status: $(cat "$TEST_DIR/reply")"
}
as() { printf '%s\n' --cert "$TLS/$1.pem" --key "$TLS/$1.key"; }

mkdir "$TLS"
mkdir -m 700 "$TEST_DIR/state"
authority ca
authority orchestrators
authority others
certificate broker ca 'ip_address = "127.0.0.1"' tls_www_server 'expiration_days = 2'
certificate scheduler orchestrators tls_www_client 'expiration_days = 2'
certificate stranger others tls_www_client 'expiration_days = 2'
certificate server orchestrators tls_www_server 'expiration_days = 2'
certificate expired orchestrators tls_www_client 'activation_date = "2020-01-01 00:00:00 UTC"' \
    'expiration_date = "2020-01-02 00:00:00 UTC"'
mapfile -t scheduler < <(as scheduler)
cleanup loopback_broker_end
start "tls_client_ca = $TLS/orchestrators.pem"
for node in a b; do
    jq -c --arg node "$node" '.node = $node' "$REPORT" >"$TEST_DIR/report"
    ask 200 PUT "/v1/nodes/$node/report" "@$TEST_DIR/report" -H "Authorization: Bearer $OPERATOR"
done
check='{"from":"a","to":["b"]}'
args='{"Pod":{"metadata":{"name":"p"}},"NodeNames":["a","b"]}'
review='{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","operation":"CREATE","object":{"metadata":{"name":"p"},"spec":{}}}}'

step "who shows the authority's certificate may ask at every door, without a token"
ask 200 POST /webhooks/check "$check" "${scheduler[@]}"
same "the answer" b "$(jq -r '.targets[0].node // .targets[0].to' "$TEST_DIR/reply")"
ask 200 POST /webhooks/kubernetes/filter "$args" "${scheduler[@]}"
same "the nodes that pass" "a b" "$(jq -r '.NodeNames | join(" ")' "$TEST_DIR/reply")"
ask 200 POST /webhooks/kubernetes/prioritize "$args" "${scheduler[@]}"
ask 200 POST /webhooks/kubernetes/validate "$review" "${scheduler[@]}"
same "the uid" u1 "$(jq -r .response.uid "$TEST_DIR/reply")"
ask 200 POST /webhooks/kubernetes/mutate "$review" "${scheduler[@]}"

step "and may do nothing else"
ask 401 GET /v1/nodes '' "${scheduler[@]}"
ask 401 POST /v1/check '{"from":"a","to":"b"}' "${scheduler[@]}"
ask 401 DELETE /v1/nodes/a '' "${scheduler[@]}"

step "who shows none is let in, and needs a token"
ask 401 POST /webhooks/check "$check"
ask 200 GET /healthz ''
ask 201 POST /v1/tokens '{"role":"webhook"}' -H "Authorization: Bearer $OPERATOR"
WEBHOOK=$(jq -r .token "$TEST_DIR/reply")
ask 200 POST /webhooks/check "$check" -H "Authorization: Bearer $WEBHOOK"
ask 200 POST /webhooks/check "$check" -u "scheduler:$WEBHOOK"

step "a token that is shown counts, whatever certificate comes with it"
ask 401 POST /webhooks/check "$check" "${scheduler[@]}" -H "Authorization: Bearer wrong"
ask 200 GET /v1/nodes '' "${scheduler[@]}" -H "Authorization: Bearer $OPERATOR"

step "another authority's certificate, an expired one, a server's: no door opens"
for who in stranger expired server; do
    mapfile -t shown < <(as "$who")
    status=$(curl -s --max-time 10 --cacert "$TLS/ca.pem" -o "$TEST_DIR/reply" -w '%{http_code}' \
        --data-binary "$check" "${shown[@]}" "$URL/webhooks/check") || true
    case $status in
    401 | 000) ;;
    *) fail "the certificate '$who' was answered $status" ;;
    esac
done
ask 200 POST /webhooks/check "$check" "${scheduler[@]}"

step "without tls_client_ca a certificate is no more than none"
loopback_broker_stop
start
ask 401 POST /webhooks/check "$check" "${scheduler[@]}"
ask 200 POST /webhooks/check "$check" -H "Authorization: Bearer $WEBHOOK"

step "tls_client_ca without TLS is refused"
loopback_broker_stop
printf '%s\n' "listen = 127.0.0.1:0" "state_dir = $TEST_DIR/state" "tls_client_ca = $TLS/orchestrators.pem" >"$TEST_DIR/broker.conf"
status=0
timeout 10 "$BROKER" serve --config "$TEST_DIR/broker.conf" >"$TEST_DIR/out" 2>&1 || status=$?
case $status in 0 | 124) fail "it serves: $(cat "$TEST_DIR/out")" ;; esac
grep -q tls_client_ca "$TEST_DIR/out" || fail "nothing about tls_client_ca: $(cat "$TEST_DIR/out")"
