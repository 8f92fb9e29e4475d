#!/usr/bin/env bash
# Anywhere: verify a certificate, its purpose and its validity.
#
#   verify.sh CERTIFICATE --ca ca.crt [--key tls.key] [--crl crl.pem] [--san DNS:host] [--days 30]
#
# Prints one line; exit code 0: valid, 1: not valid, with the reason.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { fail "usage: verify.sh CERTIFICATE --ca FILE [--key FILE] [--crl FILE] [--san NAME] [--days N]"; }
bad() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

[[ $# -ge 1 && $1 != -* ]] || usage
certificate=$1
shift
ca="" key="" crl="" san="" days=0
while [[ $# -gt 0 ]]; do
  [[ $# -ge 2 ]] || usage
  case $1 in
    --ca) ca=$2 ;;
    --key) key=$2 ;;
    --crl) crl=$2 ;;
    --san) san=$2 ;;
    --days) days=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[[ -n $ca ]] || usage
need openssl openssl
for file in "$certificate" "$ca" ${key:+"$key"} ${crl:+"$crl"}; do
  [[ -f $file ]] || bad "$file does not exist"
done
openssl x509 -in "$certificate" -noout 2>/dev/null || bad "$certificate is no PEM certificate"

until=$(openssl x509 -in "$certificate" -noout -enddate | cut -d= -f2)
openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null ||
  bad "$certificate expired on $until; rotate it (deploy/runbooks/operator.md)"
checks=(-CAfile "$ca")
if [[ -n $crl ]]; then
  # By its output: openssl's exit code is 0 whoever signed the list.
  [[ $(openssl crl -in "$crl" -noout -CAfile "$ca" 2>&1) == *"verify OK"* ]] ||
    bad "$crl is not a revocation list of this authority"
  checks+=(-CRLfile "$crl" -crl_check)
fi
if ! reason=$(openssl verify "${checks[@]}" "$certificate" 2>&1); then
  case $reason in
    *"certificate revoked"*) bad "$certificate was revoked; request a new one with request.sh" ;;
    *"CRL has expired"*) bad "$crl has expired; renew it with revoke.sh --refresh" ;;
    *) bad "$certificate was not signed by $ca, or is damaged; take ca.crt from the coordinator" ;;
  esac
fi
if [[ -n $key ]]; then
  [[ $(openssl pkey -in "$key" -pubout 2>/dev/null) == $(openssl x509 -in "$certificate" -noout -pubkey) ]] ||
    bad "$key is not the key of $certificate; they were mixed up in a rotation"
  [[ $(stat -c %a "$key") == [46]00 ]] ||
    bad "$key may be read by others; chmod 600 it"
fi
if [[ -n $san ]]; then
  check_san "$san"
  case $san in
    DNS:*) match=(-checkhost "${san#DNS:}") ;;
    *) match=(-checkip "${san#IP:}") ;;
  esac
  openssl x509 -in "$certificate" -noout "${match[@]}" | grep -q "does match" ||
    bad "$certificate is not for ${san#*:}; its names are: $(openssl x509 -in "$certificate" -noout -ext subjectAltName 2>/dev/null | tail -1 | sed 's/^ *//')"
fi
openssl x509 -in "$certificate" -noout -checkend "$((days * 86400))" >/dev/null ||
  bad "$certificate expires on $until, within $days days; rotate it (deploy/runbooks/operator.md)"
echo "$certificate is good for $(openssl x509 -in "$certificate" -noout -ext extendedKeyUsage | tail -1 | sed 's/^ *//'), until $until"
