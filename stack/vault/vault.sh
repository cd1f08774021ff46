#!/bin/sh
# The secrets' server, made usable: the first time it is initialised, at each start it is unsealed, and whenever one of the
# files here or a password of `.env` has changed, it is configured again (apply.sh). While that happens it listens on a
# socket in its own folder and nowhere else, so nobody can be faster than we are, or listen in its place.
#
# The unseal key and the root token are in store/keys.json, for this user alone. That is what makes a server come back by
# itself after a crash on a laptop; chapter 09 says what a company does instead.
#
# Arguments: the program (vault, or bao natively), the folder of its data, the folder of its two .hcl files, and `unseal`
# to do only that, to the server that runs.
set -eu
umask 077
program=$1 data=$2 conf=$3
files=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd)

if [ "$(id -u)" = 0 ] && command -v su-exec >/dev/null; then # in the container: what root mounted goes to its user
  chown -R vault "$data"
  exec su-exec vault sh "$files/vault.sh" "$@"
fi

fail() { echo "ERROR $1" >&2; exit 1; }
field() { tr -d '\n' <keys.json | sed -E "s/.*\"$1\": *\[? *\"([^\"]+)\".*/\1/"; }
# The program's answers: 0 is unsealed, 2 sealed, 1 that it does not answer yet.
answers() {
  for _ in $(seq 120); do
    code=0
    "$program" status >/dev/null 2>&1 || code=$?
    [ "$code" = 1 ] || return 0
    sleep 0.25
  done
  fail "it does not answer on its socket"
}
unseal() {
  # Through a pipe: what stands in a command line, every user of the machine can read.
  field unseal_keys_b64 | "$program" write sys/unseal key=- >/dev/null
}
# The server needs none of the passwords that it keeps, and its environment can be read as long as it lives.
bare() { for name in $(env | grep -E "$passed" | cut -d= -f1); do unset "$name"; done; }
stop() { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }

cd "$data"
export VAULT_ADDR=unix://vault.sock # in the folder below, in which all of this happens
unset VAULT_TOKEN BAO_TOKEN BAO_ADDR VAULT_NAMESPACE BAO_NAMESPACE || true

if [ "${4:-}" = unseal ]; then
  cd store
  unseal
  exit
fi

# All of it or nothing: a first start that was cut off leaves `new`, which holds nothing of value.
rm -rf new
if [ -d store ]; then cd store; else mkdir -p new/raft && cd new; fi
[ ! -e "$data/store" ] || [ -s keys.json ] ||
  fail "$data/store/keys.json is gone, and without its key nobody can read this store: put it back, or flow360 reset vault"

passed='^(AIRFLOW_CONN_[A-Z]+|VAULT_[A-Z]+_(SECRET|PASSWORD)|WAREHOUSE)='
wanted=$({ cat "$files"/*.hcl "$files"/*.sh "$files"/*/*; env | grep -E "$passed" | sort; } | cksum)
if [ "$(cat applied 2>/dev/null)" != "$wanted" ]; then
  rm -f applied
  (bare; exec "$program" server -config="$conf/vault.hcl" -config="$files/closed.hcl") &
  server=$!
  trap stop EXIT
  answers
  # One share of the key: three of five in one file would protect no better.
  [ -s keys.json ] || "$program" operator init -key-shares=1 -key-threshold=1 -format=json >keys.json
  unseal
  VAULT_TOKEN=$(field root_token) sh "$files/apply.sh" "$program"
  stop
  trap - EXIT
  echo "$wanted" >applied
fi
if [ ! -d "$data/store" ]; then
  cd "$data"
  mv new store
  cd store
fi

bare
{ answers && unseal; } &
exec "$program" server -config="$conf/vault.hcl" -config="$conf/listener.hcl"
