#!/usr/bin/env bash
# At the coordinator: issue a new certificate beside the old one, and later revoke the old one.
#
#   rotate.sh AUTHORITY REQUEST --fingerprint XXXX-XXXX-... [--days 365]   sign; the old one still works
#   rotate.sh AUTHORITY --retire NAME                                     revoke all but the newest
#
# In between the requester deploys its new key and certificate. For a site's new node key:
# python -m server sites add NAME node.pub --replace
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { fail "usage: rotate.sh AUTHORITY REQUEST --fingerprint F [--days N] | AUTHORITY --retire NAME"; }

[[ $# -ge 3 ]] || usage
authority=$1
check_authority "$authority"
here=$(dirname "${BASH_SOURCE[0]}")
if [[ $2 == --retire ]]; then
  name=$3
  check_name "$name"
  mapfile -t serials < <(valid_serials "$authority" "$name")
  [[ ${#serials[@]} -ge 2 ]] || fail "'$name' has ${#serials[@]} valid certificate(s); there is no older one to retire"
  for serial in "${serials[@]:0:${#serials[@]}-1}"; do
    openssl ca -batch -config "$authority/openssl.cnf" -revoke "$authority/issued/$serial.pem" \
      -crl_reason superseded 2>/dev/null || fail "openssl did not revoke $serial"
    echo "retired $serial of '$name'"
  done
  write_crl "$authority"
  echo "give $authority/crl.pem to the reverse proxy and reload it"
  exit
fi
[[ -f $2/name ]] || fail "$2 has no name; it is not a folder that request.sh made"
name=$(<"$2/name")
check_name "$name"
[[ -n $(valid_serials "$authority" "$name") ]] ||
  fail "'$name' has no valid certificate to renew; use approve.sh"
"$here/approve.sh" "$@" --again
echo "when it is in service: rotate.sh $authority --retire $name"
