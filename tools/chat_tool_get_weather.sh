#!/usr/bin/env bash
# A function for chat.sh: a weather report without a network: made up, and always the same for a city. "schema" prints
# what it is; "call" reads arguments and prints the result.

set -euo pipefail

case ${1-} in
schema)
    jq -n '{
        type: "function",
        function: {
            name: "get_weather",
            description: "The weather in a city right now.",
            parameters: {
                type: "object",
                properties: {
                    city: {type: "string", description: "the name of the city, without the country"},
                    unit: {type: "string", enum: ["celsius", "fahrenheit"]},
                },
                required: ["city"],
                additionalProperties: false,
            },
        },
    }'
    ;;
call)
    jq -c '
        if (.city? | type) != "string" or .city == "" then error("city must be the name of a city") else . end
        | (.city | ascii_downcase | explode | add) as $seed
        | ($seed % 35 - 5) as $celsius
        | (.unit // "celsius") as $unit
        | {
            city,
            temperature: (if $unit == "fahrenheit" then $celsius * 9 / 5 + 32 else $celsius end),
            unit: $unit,
            sky: ["clear", "cloudy", "overcast", "rain"][$seed % 4],
          }'
    ;;
*)
    printf 'usage: %s schema|call\n' "${0##*/}" >&2
    exit 2
    ;;
esac
