# shellcheck shell=bash
# What chat.sh and batch_chat.sh share. To be sourced.

API_URL=${API_URL:-http://127.0.0.1:8080}
# shellcheck disable=SC2034
readonly CHAT_URL=${API_URL%/}/v1/chat/completions

# Says what is wrong, and gives up.
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

# Checks that the programs are there, and makes the directory $work, which goes with the script.
begin() {
    local program
    for program in curl jq; do
        command -v "$program" >/dev/null || die "$program is needed and not installed" 2
    done
    umask 077
    work=$(mktemp -d) || die "cannot make a temporary directory"
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    write_headers
    write_settings
}

# The request's headers, in a file: on the command line every user of the machine could read the key.
write_headers() {
    local value
    for value in "${API_KEY-}" "${MAX_TOKENS_PER_SECOND-}"; do
        [[ $value != *[[:cntrl:]]* ]] || die "API_KEY and MAX_TOKENS_PER_SECOND must be plain text" 2
    done
    {
        printf 'Content-Type: application/json\n'
        [[ -z ${API_KEY-} ]] || printf 'Authorization: Bearer %s\n' "$API_KEY"
        [[ -z ${MAX_TOKENS_PER_SECOND-} ]] || printf 'X-Request-Tokens-Per-Second: %s\n' "$MAX_TOKENS_PER_SECOND"
    } >"$work/headers"
}

# The fields that the environment sets, in $work/settings.json.
write_settings() {
    jq -n '
        def set(name; convert): env[name] // "" | if . == "" then null else convert end;
        def number(name): set(name; (tonumber? // error("\(name) must be a number, not \(.)")));
        def boolean(name): set(name; ascii_downcase
            | if IN("1", "true", "on", "yes") then true
              elif IN("0", "false", "off", "no") then false
              else error("\(name) must be true or false, not \(.)") end);
        {
            frequency_penalty: number("FREQUENCY_PENALTY"),
            logprobs: boolean("LOGPROBS"),
            top_logprobs: number("TOP_LOGPROBS"),
            max_tokens: number("MAX_TOKENS"),
            presence_penalty: number("PRESENCE_PENALTY"),
            response_format: set("RESPONSE_FORMAT"; if startswith("{")
                then (fromjson? // error("RESPONSE_FORMAT is no JSON")) else {type: .} end),
            seed: number("SEED"),
            stop: set("STOP"; if startswith("[") then (fromjson? // error("STOP is no JSON list")) else . end),
            temperature: number("TEMP"),
            top_p: number("TOP_P"),
        } | with_entries(select(.value != null))' >"$work/settings.json" 2>"$work/errors" ||
        die "$(sed 's/^jq: error[^:]*: //' "$work/errors")" 2
}

# The request that "$1" asks for, to stdout: the text of a question, or @FILE with messages or a whole request.
# What the file says wins over the environment.
request() {
    if [[ $1 != @* ]]; then
        printf '%s' "$1" | jq -Rs --slurpfile settings "$work/settings.json" \
            '$settings[0] + {messages: [{role: "user", content: .}]}'
        return
    fi
    [[ -r ${1#@} ]] || die "cannot read ${1#@}" 2
    jq -s --slurpfile settings "$work/settings.json" '
        if length != 1 then error("one JSON value is needed") else .[0] end
        | if type == "array" then {messages: .} else . end
        | if type != "object" or (.messages | type) != "array" then error("messages are missing") else . end
        | $settings[0] + .' "${1#@}" 2>"$work/errors" ||
        die "${1#@}: $(sed 's/^jq: error[^:]*: //' "$work/errors")" 2
}

# What went wrong with a request: $1 is what the server sent, $2 what curl said.
reason() {
    local message
    message=$(jq -Rrn '
        [inputs] | (join("\n") | fromjson?),
            (.[] | select(startswith("data: ")) | .[6:] | fromjson?)
        | objects | .error // empty | .message? // tostring' "$1" 2>/dev/null | head -n 1)
    printf '%s' "${message:-$(<"$2")}"
}
