#!/usr/bin/env bash
# Sends one order to a deployed app and waits until its record is there: infra/smoke-test.sh <storage account>
#
# Needs the Azure CLI, logged in as somebody who may send to `orders` and read `idempotency`. The order is a real one:
# its event goes to `order-events` like any other, with an id that begins with `smoke-test-`.
set -euo pipefail

account=${1:?"usage: $0 <storage account>"}
id="smoke-test-$(date -u +%Y%m%dT%H%M%SZ)-$$"
attempts=${SMOKE_TEST_ATTEMPTS:-60}
pause=${SMOKE_TEST_PAUSE:-5}

# The keys of the record, as src/idempotency/key.rs makes them: each part is preceded by its length in eight bytes.
part() { printf "\\0\\0\\0\\0\\0\\0\\0\\$(printf %03o "${#1}")%s" "$1"; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$({ part 1; part orders; part "$id"; } | sha256 | cut -c 1-64)
partition=$(printf 'bucket~%02x' $((0x${hash:0:2} >> 2)))

# A new role takes minutes to work, and a record some seconds. An order that is sent twice takes effect once.
repeat() {
    local attempt
    for ((attempt = 1; attempt <= attempts; attempt++)); do
        if answer=$("$@" --account-name "$account" --auth-mode login --only-show-errors 2>&1); then return; fi
        sleep "$pause"
    done
    echo "Given up after $attempts attempts. The last answer was: $answer" >&2
    exit 1
}

echo "Sending the order $id"
repeat az storage message put --queue-name orders --content "{\"id\":\"$id\",\"amount\":0}" --output none

echo "Waiting for its record"
repeat az storage entity show --table-name idempotency --partition-key "$partition" --row-key "record~$hash" \
    --query receipt --output tsv
echo "Committed: $answer"
