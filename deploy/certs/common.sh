# shellcheck shell=bash
# Functions of the scripts in this folder; sourced, not run.
set -euo pipefail
umask 077

# Print one line, what is wrong and what to do, and exit.
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

need() {
  command -v "$1" >/dev/null || fail "$1 is not installed; install it (package $2)"
}

# The same rule for a site's name as in the Python code (check_site_name).
check_name() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] ||
    fail "a name is 1 to 64 of A-Z a-z 0-9 . _ -, got ${1@Q}"
}

check_san() {
  [[ $1 =~ ^DNS:[A-Za-z0-9.-]+$ || $1 =~ ^IP:[0-9a-fA-F.:]+$ ]] ||
    fail "a subject name is DNS:host or IP:address, got ${1@Q}"
}

# SHA-256 of the public key in a request or certificate, for comparison by two people.
key_digest() {
  openssl "$1" -in "$2" -noout -pubkey 2>/dev/null | openssl pkey -pubin -outform DER 2>/dev/null |
    openssl dgst -sha256 -r | cut -d' ' -f1
}

# Fingerprint of a whole request: the TLS key, the node key and the requested names.
request_fingerprint() {
  local folder=$1
  {
    key_digest req "$folder/request.csr"
    cat "$folder/role" "$folder/name"
    if [[ -f $folder/names ]]; then cat "$folder/names"; fi
    if [[ -f $folder/node.pub ]]; then cut -d' ' -f1,2 "$folder/node.pub"; fi
  } | openssl dgst -sha256 -r | cut -c1-32 | sed 's/..../&-/g; s/-$//'
}

# Serial numbers of a name's valid certificates, one per line, oldest first.
valid_serials() {
  awk -F'\t' -v cn="/CN=$2" '$1 == "V" && $6 == cn { print $4 }' "$1/index.txt"
}

# Write the revocation list for proxies, after each change and before it expires.
write_crl() {
  local authority=$1
  openssl ca -batch -config "$authority/openssl.cnf" -gencrl -out "$authority/crl.pem.new" 2>/dev/null ||
    fail "$authority cannot write its revocation list"
  chmod 644 "$authority/crl.pem.new"
  mv "$authority/crl.pem.new" "$authority/crl.pem"
}

# The folder may be moved, e.g. to an offline USB stick: its configuration reads its path from AUTHORITY.
check_authority() {
  export AUTHORITY=$1
  [[ -f $1/ca.key && -f $1/openssl.cnf ]] ||
    fail "$1 holds no certificate authority; make one with authority.sh $1"
}
