#!/usr/bin/env bash
# At a site, or for the coordinator's server: create keys, and a request without secrets.
#
#   request.sh site NAME FOLDER
#   request.sh server NAME FOLDER --san DNS:host [--san IP:address ...]
#
# FOLDER/private stays on this machine. FOLDER/request goes to the coordinator; read the printed
# fingerprint to them over another channel, such as the telephone. For a rotation run it again with
# another FOLDER.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { fail "usage: request.sh site|server NAME FOLDER [--san DNS:host|IP:address ...]"; }

[[ $# -ge 3 ]] || usage
role=$1 name=$2 folder=$3
shift 3
[[ $role == site || $role == server ]] || usage
check_name "$name"
names=()
while [[ $# -gt 0 ]]; do
  [[ $1 == --san && $# -ge 2 ]] || usage
  check_san "$2"
  names+=("$2")
  shift 2
done
[[ $role == site || ${#names[@]} -gt 0 ]] ||
  fail "a server needs at least one --san: the name or address by which sites reach it"
[[ $role == server || ${#names[@]} -eq 0 ]] || fail "a site's certificate carries no --san"
need openssl openssl
need ssh-keygen openssh-client
[[ ! -e $folder/private ]] || fail "$folder/private exists; give another folder, keys are not replaced"

mkdir -p "$folder/private" "$folder/request"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$folder/private/tls.key" 2>/dev/null
# An own configuration: the machine's may require more subject fields.
openssl req -new -sha384 -key "$folder/private/tls.key" -subj "/CN=$name" \
  -config <(printf '[req]\ndistinguished_name = none\n[none]\n') -out "$folder/request/request.csr"
echo "$role" >"$folder/request/role"
echo "$name" >"$folder/request/name"
if [[ $role == server ]]; then
  printf '%s\n' "${names[@]}" >"$folder/request/names"
else
  # Key with which the site's node signs each call to Flower.
  ssh-keygen -q -t ecdsa -b 384 -N "" -C "$name" -f "$folder/private/node.key"
  mv "$folder/private/node.key.pub" "$folder/request/node.pub"
  # Pair for the connection between the node and the gateway, which adds tls.crt; self-signed.
  openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -sha384 -days 3650 \
    -subj "/CN=gateway" -addext "subjectAltName=DNS:gateway,DNS:localhost,IP:127.0.0.1" \
    -keyout "$folder/private/gateway.key" -out "$folder/private/gateway.crt" 2>/dev/null
  # For the connection between node and app: a certificate authenticates the node, a secret the app.
  "$(dirname "${BASH_SOURCE[0]}")/local-api.sh" "$folder/private" >/dev/null
  openssl rand -out "$folder/private/app.secret" 32
fi
chmod 755 "$folder/request"
chmod 644 "$folder/request/"*
echo "send the folder $folder/request to the coordinator, and read to them:"
echo "fingerprint $(request_fingerprint "$folder/request")"
