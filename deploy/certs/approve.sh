#!/usr/bin/env bash
# At the coordinator: sign a request whose fingerprint its sender has confirmed over another channel.
#
#   approve.sh AUTHORITY REQUEST --fingerprint XXXX-XXXX-... [--days 365]
#
# Writes AUTHORITY/issued/<name>/: tls.crt and ca.crt to send back, which are not secret, and for a site
# node.pub, for `python -m server sites add`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { fail "usage: approve.sh AUTHORITY REQUEST --fingerprint F [--days N] [--again]"; }

[[ $# -ge 2 ]] || usage
authority=$1 request=$2
shift 2
days=365 fingerprint="" again=""
while [[ $# -gt 0 ]]; do
  case $1 in
    --fingerprint) [[ $# -ge 2 ]] || usage; fingerprint=$2; shift 2 ;;
    --days) [[ $# -ge 2 && $2 =~ ^-?[0-9]+$ ]] || usage; days=$2; shift 2 ;;
    --again) again=yes; shift ;;
    *) usage ;;
  esac
done
need openssl openssl
check_authority "$authority"
# A link could lead to a secret file of this machine, which would be copied like node.pub.
[[ -d $request && ! -L ${request%/} ]] || fail "$request is no folder; give the one that the site sent"
[[ -z $(find "$request/" -type l -print -quit) ]] ||
  fail "$request holds a symbolic link, as no request does; do not sign it"
for file in request.csr role name; do
  [[ -f $request/$file ]] || fail "$request has no $file; it is not a folder that request.sh made"
done
if grep -rqs "PRIVATE KEY" "$request"; then
  fail "$request holds a PRIVATE key, which must never leave its site; have new keys made"
fi
role=$(<"$request/role") name=$(<"$request/name")
[[ $role == site || $role == server ]] || fail "$request asks for the role '$role'; it is site or server"
check_name "$name"
openssl req -in "$request/request.csr" -verify -noout >/dev/null 2>&1 ||
  fail "$request/request.csr is damaged or not signed by its own key; have it sent again"
subject=$(openssl req -in "$request/request.csr" -noout -subject -nameopt RFC2253)
[[ $subject == "subject=CN=$name" ]] || fail "the request's subject is '${subject#subject=}', expected CN=$name"
openssl req -in "$request/request.csr" -noout -text | grep -q "secp384r1" ||
  fail "the request's key is not on the curve P-384; have it made with request.sh"

actual=$(request_fingerprint "$request")
[[ -n $fingerprint ]] ||
  fail "the request of $role '$name' has the fingerprint $actual; have its sender read theirs to you and give it with --fingerprint"
[[ ${fingerprint,,} == "$actual" ]] ||
  fail "the fingerprint is $actual, the sender's is $fingerprint; the request was changed on its way, do not sign it"
if [[ -z $again && -n $(valid_serials "$authority" "$name") ]]; then
  fail "'$name' has a valid certificate; renew it with rotate.sh, or revoke it with revoke.sh"
fi

extensions=$(mktemp)
trap 'rm -f "$extensions"' EXIT
{
  echo "basicConstraints = critical, CA:FALSE"
  echo "keyUsage = critical, digitalSignature"
  echo "subjectKeyIdentifier = hash"
  echo "authorityKeyIdentifier = keyid"
  if [[ $role == server ]]; then
    echo "extendedKeyUsage = serverAuth"
    # `|| [[ -n ... ]]` checks a last line without a newline too.
    while read -r san || [[ -n $san ]]; do check_san "$san"; done <"$request/names"
    echo "subjectAltName = $(paste -sd, "$request/names")"
  else
    # For clients only: a site cannot impersonate the coordinator to another site.
    echo "extendedKeyUsage = clientAuth"
  fi
} >"$extensions"
issued=$authority/issued/$name
mkdir -p "$issued"
# Valid from two days ago: a site whose clock is a little behind accepts it.
# The end is relative to now, so that a test can create an expired one.
openssl ca -batch -notext -config "$authority/openssl.cnf" -in "$request/request.csr" \
  -startdate "$(date -u -d '-2 days' +%Y%m%d%H%M%SZ)" -enddate "$(date -u -d "$days days" +%Y%m%d%H%M%SZ)" \
  -extfile "$extensions" -out "$issued/tls.crt.new" 2>"$issued/error" ||
  fail "openssl did not sign the request: $(tail -1 "$issued/error")"
rm -f "$issued/error"
mv "$issued/tls.crt.new" "$issued/tls.crt"
cp "$authority/ca.crt" "$issued/ca.crt"
chmod 644 "$issued/"*.crt
echo "signed $issued/tls.crt for $role '$name', valid until $(openssl x509 -in "$issued/tls.crt" -noout -enddate | cut -d= -f2)"
if [[ $role == site ]]; then
  cp "$request/node.pub" "$issued/node.pub"
  echo "send back $issued/tls.crt and ca.crt; then: python -m server sites add $name $issued/node.pub"
fi
