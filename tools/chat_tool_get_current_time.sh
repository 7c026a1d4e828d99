#!/usr/bin/env bash
# A function for chat.sh: the time of day. "schema" prints what it is; "call" reads arguments and prints the result.

set -euo pipefail

case ${1-} in
schema)
    jq -n '{
        type: "function",
        function: {
            name: "get_current_time",
            description: "The time of day, with the offset of its time zone from UTC.",
            parameters: {
                type: "object",
                properties: {utc: {type: "boolean", description: "true: the time in UTC, not where the user is"}},
                additionalProperties: false,
            },
        },
    }'
    ;;
call)
    utc=$(jq -r 'if type != "object" then error("the arguments must be an object") else .utc // false end')
    [[ $utc != true ]] || export TZ=UTC
    printf -v time '%(%H:%M:%S)T' -1
    printf -v offset '%(%z)T' -1
    jq -nc --arg time "$time" --arg offset "$offset" '{time: $time, utc_offset: $offset}'
    ;;
*)
    printf 'usage: %s schema|call\n' "${0##*/}" >&2
    exit 2
    ;;
esac
