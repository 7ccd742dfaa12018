#!/usr/bin/env bash
# Puts messages in quarantine that are `exhausted` back on `orders`: infra/put-back.sh <storage account> [<at most so many>]
#
# Needs Node.js and the Azure CLI, logged in as somebody with the role Storage Queue Data Contributor. A message is put
# before it is deleted. If this is cut off in between, the message is on both queues, and the app treats the second one as
# a duplicate. No message is lost.
set -euo pipefail

account=${1:?"usage: $0 <storage account> [<at most so many>]"}
limit=${2:-1000}
[[ $limit =~ ^[1-9][0-9]*$ ]] || { echo "not a number of messages: $limit" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Nobody else gets a message that was taken for so many seconds; time enough to put and to delete it.
hidden=300

message() { az storage message "$@" --account-name "$account" --auth-mode login --only-show-errors; }

# A member of the envelope that was taken, and a dot, without which the shell would drop line ends; nothing when there
# is none. `content` is the message in it, if that is to be put back.
member() {
    node -e 'const [taken] = JSON.parse(require("fs").readFileSync(0, "utf8"));
        const kept = () => { try { return JSON.parse(taken.content); } catch { return {}; } };
        const { reason, part, message } = taken && process.argv[1] === "content" ? kept() : {};
        const content = reason === "exhausted" && !part ? message : undefined;
        const value = taken && (process.argv[1] === "content" ? content : taken[process.argv[1]]);
        if (value !== undefined) process.stdout.write(`${value}.`);' "$1" <<<"$taken"
}

count=0
while ((count < limit)); do
    taken=$(message get --queue-name orders-quarantine --num-messages 1 --visibility-timeout "$hidden" --output json)
    id=$(member id) receipt=$(member popReceipt) content=$(member content)
    if [[ -z $id ]]; then
        echo "Put back: $count. Nothing more can be taken from orders-quarantine."
        exit
    fi
    [[ -n $content ]] || continue
    id=${id%.} receipt=${receipt%.} content=${content%.}
    if [[ $content == @* ]]; then
        # To the command line an argument that begins like this is the name of a file.
        printf %s "$content" >"$folder/content"
        content=@$folder/content
    fi
    if ! message put --queue-name orders --content="$content" --output none; then
        echo "put back: $count. $id was not, and can be taken from orders-quarantine again in $hidden s" >&2
        exit 1
    fi
    if ! message delete --queue-name orders-quarantine --id="$id" --pop-receipt="$receipt" --output none; then
        echo "put back: $((count + 1)). $id is in orders-quarantine as well" >&2
        exit 1
    fi
    count=$((count + 1))
done
echo "Put back: $count. There may be more in orders-quarantine."
