#!/usr/bin/env bash
# A function for chat.sh: the square of a number. "schema" prints what it is; "call" reads arguments and prints the
# result.

set -euo pipefail

case ${1-} in
schema)
    jq -n '{
        type: "function",
        function: {
            name: "square",
            description: "The square of a number.",
            parameters: {
                type: "object",
                properties: {number: {type: "number"}},
                required: ["number"],
                additionalProperties: false,
            },
        },
    }'
    ;;
call)
    jq -c 'if (.number? | type) != "number" then error("number must be a number") else {square: (.number * .number)} end'
    ;;
*)
    printf 'usage: %s schema|call\n' "${0##*/}" >&2
    exit 2
    ;;
esac
