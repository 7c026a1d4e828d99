# shellcheck shell=bash
# What chat.sh and batch_chat.sh share. To be sourced.

# shellcheck source=tools/shell_lib.sh disable=SC2154
source "$here/shell_lib.sh"

# shellcheck disable=SC2034
readonly CHAT_URL=$API_URL/v1/chat/completions

# Makes $work, and in it the headers and the fields that the environment sets.
begin() {
    local headers=('Content-Type: application/json')
    open_work curl jq
    if [[ -n ${MAX_TOKENS_PER_SECOND-} ]]; then
        [[ $MAX_TOKENS_PER_SECOND != *[[:cntrl:]]* ]] || die "MAX_TOKENS_PER_SECOND must be plain text" 2
        headers+=("X-Request-Tokens-Per-Second: $MAX_TOKENS_PER_SECOND")
    fi
    write_headers "${headers[@]}"
    write_settings
}

# The fields that the environment sets, in $work/settings.json.
write_settings() {
    jq -n "$SETTINGS"'
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
        } | given' >"$work/settings.json" 2>"$work/errors" || die "$(complaint)" 2
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
        | $settings[0] + .' "${1#@}" 2>"$work/errors" || die "${1#@}: $(complaint)" 2
}
