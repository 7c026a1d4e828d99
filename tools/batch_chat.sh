#!/usr/bin/env bash
# Asks a chat model several times at once, in waves, and prints how fast it was. See chat.md.
#
#   batch_chat.sh [QUESTION | @FILE.json [REQUESTS...]]
#
# REQUESTS: how many at once, one number a wave; 1 2 4 8 if none is given.

set -uo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tools/chat_lib.sh
source "$here/chat_lib.sh"

# Sends request number $1 of a wave; its answer, curl's words and the seconds it took stay in $work.
send() {
    curl --silent --show-error --fail-with-body --header "@$work/headers" --data-binary "@$work/request.json" \
        --output "$work/answer.$1" --write-out '%{time_total}\n' -- "$CHAT_URL" 2>"$work/errors.$1" >"$work/seconds.$1"
}

# A wave of $1 requests; prints its line of the table. Status 1 if any of them failed.
wave() {
    local count=$1 number start end failed=0 pids=()
    rm -f -- "$work"/answer.* "$work"/seconds.*
    start=${EPOCHREALTIME/,/.}
    for ((number = 0; number < count; number++)); do
        send "$number" &
        pids+=($!)
    done
    for ((number = 0; number < count; number++)); do
        if ! wait "${pids[number]}"; then
            ((failed++)) || warn "$(reason "$work/answer.$number" "$work/errors.$number")"
            rm -f -- "$work/answer.$number" "$work/seconds.$number"
        fi
    done
    end=${EPOCHREALTIME/,/.}
    if ((failed < count)); then
        jq -s 'map(.usage)' "$work"/answer.* >"$work/usages.json"
        cat -- "$work"/seconds.* | tr , . | jq -s . >"$work/all_seconds.json"
    else
        printf '[]' | tee -- "$work/usages.json" >"$work/all_seconds.json"
    fi
    # A server that gives no rate: the request's tokens by its time.
    jq -nr --arg count "$count" --arg failed "$failed" --argjson began "$start" --argjson ended "$end" \
        --slurpfile usages "$work/usages.json" --slurpfile seconds "$work/all_seconds.json" '
        def mean: if length == 0 then 0 else add / length end;
        def fixed: . * 100 | round | "\(. / 100 | floor).\(. % 100 + 100 | tostring | .[1:])";
        ($ended - $began) as $wall
        | ($usages[0] | map(.completion_tokens // 0)) as $tokens
        | ([range($tokens | length) as $n
            | $usages[0][$n].tokens_per_second // ($tokens[$n] / $seconds[0][$n])] | mean) as $each
        | [$count, $failed, ($tokens | add // 0), ($wall | fixed),
            (($tokens | add // 0) / $wall | fixed), ($each | fixed),
            ($usages[0] | map(.time_to_first_token_ms // empty) | mean | round)]
        | @tsv' | while IFS=$'\t' read -r -a cells; do row "${cells[@]}"; done || return 1
    ((failed == 0))
}

row() {
    printf '%8s %7s %8s %9s %10s %13s %15s\n' "$@"
}

help_if_asked "$@"
question=${1:-Tell a short story about a lighthouse.}
shift || true
(($# > 0)) || set -- 1 2 4 8
for count in "$@"; do
    [[ $count =~ ^[1-9][0-9]{0,3}$ ]] || die "a wave is a number from 1 to 9999, not $count" 2
done
export MAX_TOKENS=${MAX_TOKENS:-128}
begin
request "$question" >"$work/asked.json" || exit
jq 'del(.stream, .stream_options)' "$work/asked.json" >"$work/request.json"

row requests failed tokens seconds tokens/s "each tokens/s" "first token ms"
status=0
for count in "$@"; do
    wave "$count" || status=1
done
exit "$status"
