#!/usr/bin/env bash
# A function for chat.sh: today's date. "schema" prints what it is; "call" reads arguments and prints the result.

set -euo pipefail
export LC_TIME=C

case ${1-} in
schema)
    jq -n '{
        type: "function",
        function: {
            name: "get_current_date",
            description: "The date of today and the day of the week, where the user is.",
            parameters: {type: "object", properties: {}, additionalProperties: false},
        },
    }'
    ;;
call)
    printf -v date '%(%Y-%m-%d)T' -1
    printf -v weekday '%(%A)T' -1
    jq -nc --arg date "$date" --arg weekday "$weekday" '{date: $date, weekday: $weekday}'
    ;;
*)
    printf 'usage: %s schema|call\n' "${0##*/}" >&2
    exit 2
    ;;
esac
