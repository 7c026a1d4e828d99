#!/usr/bin/env bash
# Talks to a chat model. See chat.md.
#
#   chat.sh QUESTION      one answer
#   chat.sh @FILE.json    messages, or a whole request
#   chat.sh               a conversation, until the input ends

set -uo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tools/chat_lib.sh
source "$here/chat_lib.sh"

readonly MAX_ROUNDS=8 # requests in one turn: each round of tool calls takes one more
declare -A tools=()   # name of the function: path of its script

# A delta of the first choice.
readonly DELTAS="$EVENTS"'
def choice: first(.choices[]? | select((.index // 0) == 0)) // {};
def delta: choice | .delta // {};
'

# Text as it comes. Reasoning is for people only, and dim; what a model writes must not steer their terminal.
# shellcheck disable=SC2016
readonly SHOW='
def safe: if $terminal
    then explode | map(select(. == 9 or . == 10 or (. >= 32 and . < 127) or . >= 160)) | implode else . end;
foreach events as $event ({};
    ($event | delta) as $delta | .out = ""
    | if $terminal and ($delta.reasoning_content // "") != "" then
          .out += (if .dim then "" else "\u001b[2m" end) + ($delta.reasoning_content | safe) | .dim = true
      else . end
    | if .dim and (($delta.content // "") != "" or ($event | choice | .finish_reason) != null) then
          .out += "\u001b[0m\n\n" | .dim = false
      else . end
    | .out += ($delta.content // "" | safe);
    .out)'

# The message that all deltas make, and how it ended.
# shellcheck disable=SC2016
readonly JOIN='
[events] as $events | [$events[] | delta] as $deltas
| ([$deltas[].content // empty] | join("")) as $content
| ([$deltas[].reasoning_content // empty] | join("")) as $reasoning
| ([$deltas[].tool_calls // [] | .[]] | group_by(.index) | map({
      id: (map(.id // empty) | first),
      type: "function",
      function: {
          name: (map(.function.name // empty) | first),
          arguments: (map(.function.arguments // empty) | join("")),
      },
  })) as $calls
| {
    message: ({role: "assistant", content: $content}
        + (if $reasoning == "" then {} else {reasoning_content: $reasoning} end)
        + (if $calls == [] then {} else {tool_calls: $calls} end)),
    finish: ([$events[] | choice | .finish_reason // empty] | last),
    usage: ([$events[].usage? // empty] | last),
  }'

# What the shell has to know of a turn, in lines: whether there was text, how it ended, the figures.
readonly FACTS="$EVENTS"'
.message.content != "", .finish,
(.usage // empty
| "\(.prompt_tokens) prompt tokens"
  + (.prompt_tokens_details.cached_tokens // 0 | if . > 0 then " (\(.) from the cache)" else "" end)
  + (.prompt_tokens_per_second // 0 | if . > 0 then ", \(round1)/s" else "" end)
  + (.time_to_first_token_ms // 0 | if . > 0 then ", first token after \(round1) ms" else "" end)
  + "; \(.completion_tokens) tokens"
  + (.tokens_per_second // 0 | if . > 0 then ", \(round1)/s" else "" end)
  + (if (.draft_tokens // 0) > 0 then ", \(.draft_tokens_acceptance * 100 | round)% of the drafts taken" else "" end))'

# Three lines a call: name, id, arguments. A line break in JSON is white space.
readonly CALLS='
.message.tool_calls // [] | .[]
| (.function.name // "", .id // "", .function.arguments) | gsub("[\r\n]"; " ")'

# Finds the local tools: their paths, and what they say of themselves in $work/tools.json.
find_tools() {
    local script name
    : >"$work/found"
    if [[ ${TOOLS_WITH-} == true ]]; then
        for script in "$here"/chat_tool_*.sh; do
            [[ -x $script ]] || continue
            "$script" schema >"$work/tool.json" || die "$script cannot say what it does"
            name=$(jq -er '.function.name' "$work/tool.json") || die "$script does not say its name"
            tools[$name]=$script
            cat -- "$work/tool.json" >>"$work/found"
        done
    fi
    jq -s . "$work/found" >"$work/tools.json"
}

# Replaces the conversation by what jq makes of it; the arguments are jq's.
edit() {
    jq "$@" --slurpfile messages "$work/messages.json" >"$work/edited.json" &&
        mv -- "$work/edited.json" "$work/messages.json"
}

# Sends the conversation once; shows the answer as it comes; leaves it in $work/turn.json, and the last of $work/facts
# are its figures.
exchange() {
    local terminal=false status facts
    [[ ! -t 1 ]] || terminal=true
    # shellcheck disable=SC2016
    jq -s '.[2] as $tools | .[0] + {messages: .[1], stream: true, stream_options: {include_usage: true}}
        | .tools = (.tools // []) + $tools | if .tools == [] then del(.tools) else . end' \
        "$work/base.json" "$work/messages.json" "$work/tools.json" >"$work/request.json" || return 1
    curl --silent --show-error --no-buffer --fail-with-body --header "@$work/headers" \
        --data-binary "@$work/request.json" -- "$CHAT_URL" 2>"$work/errors" |
        tee -- "$work/raw" | jq -Rnj --unbuffered --argjson terminal "$terminal" "$DELTAS $SHOW"
    status=${PIPESTATUS[0]}
    jq -Rn "$DELTAS $JOIN" "$work/raw" >"$work/turn.json" || return 1
    jq -r "$FACTS" "$work/turn.json" >"$work/facts" || return 1
    mapfile -t facts <"$work/facts"
    [[ ${facts[0]} == false ]] || printf '\n'
    is_whole "$status" || return 1
    [[ ${facts[1]} != length ]] || figures+=('(cut off: the limit of tokens)')
    figures+=("${facts[@]:2}")
    # shellcheck disable=SC2016
    edit -n '$messages[0] + [$turn[0].message]' --slurpfile turn "$work/turn.json"
}

# Runs a call; its result becomes a message of the conversation.
run_call() {
    local name=$1 id=$2 arguments=$3 result
    if [[ -z $name || -z ${tools[$name]-} ]]; then
        result='{"error": "there is no such function"}'
    elif ! result=$(printf '%s' "$arguments" | "${tools[$name]}" call 2>"$work/errors"); then
        result=$(jq -Rsc '{error: rtrimstr("\n")}' "$work/errors")
    fi
    printf '[%s: %s]\n' "$name" "$result" | tr -d '\000-\010\013-\037\177' >&2
    # shellcheck disable=SC2016
    printf '%s' "$result" | edit -Rs --arg id "$id" --arg name "$name" \
        '$messages[0] + [{role: "tool", tool_call_id: $id, name: $name, content: .}]'
}

# The model's turn, with all the tools that it calls.
turn() {
    local round name id arguments figures=()
    for ((round = 0; round < MAX_ROUNDS; round++)); do
        exchange || return 1
        jq -r "$CALLS" "$work/turn.json" >"$work/calls" || return 1
        if [[ ! -s $work/calls ]] || ((${#tools[@]} == 0)); then
            # The request's own functions: running them is the caller's business.
            [[ ! -s $work/calls ]] || jq -c '.message.tool_calls[]' "$work/turn.json"
            ((${#figures[@]} == 0)) || printf '%s\n' "${figures[@]}" >&2
            return
        fi
        while IFS= read -r name <&3 && IFS= read -r id <&3 && IFS= read -r arguments <&3; do
            run_call "$name" "$id" "$arguments" || return 1
        done 3<"$work/calls"
    done
    warn "the model still calls tools after $MAX_ROUNDS requests"
    return 1
}

# Lines of the input, each a turn of the user. A turn that fails is forgotten.
converse() {
    local line failed=0
    printf '[]' >"$work/messages.json"
    cp -- "$work/settings.json" "$work/base.json"
    while ask || [[ -n $line ]]; do
        [[ -n $line ]] || continue
        cp -- "$work/messages.json" "$work/before.json"
        # shellcheck disable=SC2016
        printf '%s' "$line" | edit -Rs '$messages[0] + [{role: "user", content: .}]'
        if ! turn; then
            failed=1
            mv -- "$work/before.json" "$work/messages.json"
        fi
    done
    return "$failed"
}

help_if_asked "$@"
(($# <= 1)) || die "one question, in quotation marks, or one @FILE" 2
begin
find_tools
if (($# == 0)); then
    converse
    exit
fi
request "$1" >"$work/request.json" || exit
jq .messages "$work/request.json" >"$work/messages.json"
jq 'del(.messages)' "$work/request.json" >"$work/base.json"
turn
