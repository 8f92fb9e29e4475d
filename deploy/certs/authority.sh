#!/usr/bin/env bash
# At the coordinator, once: create a certificate authority for this federation only.
#
#   authority.sh FOLDER [--days 3650] [--crl-days 45]
#
# FOLDER then has ca.key (which stays there, preferably offline), ca.crt (for every site) and crl.pem (for
# the reverse proxy; it expires: see runbooks/operator.md).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() { fail "usage: authority.sh FOLDER [--days N] [--crl-days N]"; }

[[ $# -ge 1 && $1 != -* ]] || usage
folder=$1
shift
days=3650 crl_days=45
while [[ $# -gt 0 ]]; do
  [[ $# -ge 2 && $2 =~ ^[1-9][0-9]*$ ]] || usage
  case $1 in
    --days) days=$2 ;;
    --crl-days) crl_days=$2 ;;
    *) usage ;;
  esac
  shift 2
done
need openssl openssl
[[ ! -e $folder/ca.key ]] || fail "$folder holds a certificate authority already; it is not replaced"
mkdir -p "$folder/issued"
export AUTHORITY=$folder
: >"$folder/index.txt"
# A rotation issues a second certificate for the same name.
echo "unique_subject = no" >"$folder/index.txt.attr"
echo 1000 >"$folder/crlnumber"
cat >"$folder/openssl.cnf" <<CONFIG
[ca]
default_ca = federation
[federation]
dir = \${ENV::AUTHORITY}
database = \$dir/index.txt
new_certs_dir = \$dir/issued
certificate = \$dir/ca.crt
private_key = \$dir/ca.key
crlnumber = \$dir/crlnumber
default_md = sha384
default_days = 365
default_crl_days = $crl_days
rand_serial = yes
unique_subject = no
policy = name_only
# No extension of a request is copied: approve.sh writes them.
copy_extensions = none
[name_only]
commonName = supplied
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[req]
distinguished_name = empty
[empty]
CONFIG
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$folder/ca.key" 2>/dev/null
openssl req -x509 -new -sha384 -key "$folder/ca.key" -days "$days" -subj "/CN=fedvitals federation" \
  -config "$folder/openssl.cnf" -extensions authority -out "$folder/ca.crt"
chmod 644 "$folder/ca.crt"
write_crl "$folder"
echo "made $folder/ca.crt, valid for $days days; every site gets this file"
