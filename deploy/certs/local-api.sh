#!/usr/bin/env bash
# At a site: create the certificate of the node's local interface, at which the app requests work.
#
#   local-api.sh FOLDER [--san DNS:host|IP:address ...] [--days 3650]
#
# Writes FOLDER/client-api.key, which only the node reads, and FOLDER/client-api.crt, the only certificate
# that the app trusts. It is self-signed: no authority can issue another.
# request.sh calls this once; call it again to renew the pair, or for another name than those of
# deploy/site (client-api, localhost, 127.0.0.1, 127.0.0.2).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { fail "usage: local-api.sh FOLDER [--san DNS:host|IP:address ...] [--days N]"; }

[[ $# -ge 1 && -n $1 && $1 != -* ]] || usage
folder=$1
shift
days=3650 names=()
while [[ $# -gt 0 ]]; do
  [[ $# -ge 2 ]] || usage
  case $1 in
    --san) check_san "$2"; names+=("$2") ;;
    --days) [[ $2 =~ ^[1-9][0-9]*$ ]] || usage; days=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ ${#names[@]} -gt 0 ]] || names=(DNS:client-api DNS:localhost IP:127.0.0.1 IP:127.0.0.2)
need openssl openssl
for file in client-api.key client-api.crt; do
  [[ ! -e $folder/$file ]] || fail "$folder/$file exists; give another folder, keys are not replaced"
done
mkdir -p "$folder"
openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -sha384 -days "$days" \
  -config <(printf '[req]\ndistinguished_name = none\n[none]\n') -subj "/CN=client-api" \
  -addext "subjectAltName=$(IFS=,; echo "${names[*]}")" -addext "basicConstraints=critical,CA:FALSE" \
  -addext "keyUsage=critical,digitalSignature" -addext "extendedKeyUsage=serverAuth" \
  -keyout "$folder/client-api.key" -out "$folder/client-api.crt" 2>/dev/null ||
  fail "openssl made no certificate for ${names[*]}"
chmod 644 "$folder/client-api.crt"
echo "made $folder/client-api.crt for ${names[*]}; the app's process trusts this file"
