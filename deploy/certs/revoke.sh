#!/usr/bin/env bash
# At the coordinator: revoke all certificates of a name, or only renew the revocation list.
#
#   revoke.sh AUTHORITY NAME
#   revoke.sh AUTHORITY --refresh
#
# Revoke the site's node key as well: python -m server sites remove NAME
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -eq 2 ]] || fail "usage: revoke.sh AUTHORITY NAME | AUTHORITY --refresh"
authority=$1 name=$2
need openssl openssl
check_authority "$authority"
if [[ $name != --refresh ]]; then
  check_name "$name"
  mapfile -t serials < <(valid_serials "$authority" "$name")
  [[ ${#serials[@]} -gt 0 ]] || fail "'$name' has no valid certificate; known are: $(awk -F'\t' '$1 == "V" { sub("/CN=", "", $6); print $6 }' "$authority/index.txt" | sort -u | paste -sd' ')"
  for serial in "${serials[@]}"; do
    openssl ca -batch -config "$authority/openssl.cnf" -revoke "$authority/issued/$serial.pem" 2>/dev/null ||
      fail "openssl did not revoke $serial"
    echo "revoked $serial of '$name'"
  done
fi
write_crl "$authority"
echo "give $authority/crl.pem to the reverse proxy and reload it"
