# shellcheck shell=bash
# What image_generate.sh and image_edit.sh share. To be sourced. They define "post", which sends $work/request.json and
# prints what comes back.

# shellcheck source=tools/shell_lib.sh disable=SC2154
source "$here/shell_lib.sh"

# Each event: a line with the image's number, its progress, its steps, whether it is finished, and the length of the
# picture, whose base64 follows at once.
# shellcheck disable=SC2016
readonly PICTURES='
events | .data[]? | (.b64_json // "") as $picture
| "\(.index + 1 | floor) \(.progress | floor) \(.progressed_steps | floor) \(has("finish_reason")) \($picture | length)\n",
  $picture'

# The figures of a request, which took $seconds.
# shellcheck disable=SC2016
readonly IMAGE_FIGURES='
[events] as $events
| ([$events[].usage? // empty] | last) as $usage
| ([$events[].data[]? | select(has("finish_reason"))] | length) as $count
| "\($count) \(if $count == 1 then "image" else "images" end) in \($seconds | round1) s"
  + ($usage // {} | .time_to_process_ms // 0 | if . > 0 then "; encoding \(round1) ms" else "" end)
  + ($usage // {} | .time_per_generation_ms // 0 | if . > 0 then ", \(round1) ms a step" else "" end)
  + ($usage // {} | .generation_per_second // 0 | if . >= 0.1 then ", \(round1) steps/s" else "" end)'

# Makes $work, and in it the headers (those given, and the key) and the fields that the environment sets.
begin() {
    mode=$(umask)
    open_work curl jq base64
    write_headers "$@"
    output=${OUTPUT:-.}
    [[ -d $output && -w $output ]] || die "OUTPUT: cannot write to the directory $output" 2
    write_settings
}

write_settings() {
    jq -n "$SETTINGS"'
        {
            n: number("N"),
            size: set("SIZE"; .),
            quality: set("QUALITY"; .),
            style: set("STYLE"; .),
            sample_method: set("SAMPLER"; .),
            sampling_steps: number("SAMPLE_STEPS"),
            schedule_method: set("SCHEDULE"; .),
            seed: number("SEED"),
            guidance: number("GUIDANCE"),
            cfg_scale: number("CFG_SCALE"),
            negative_prompt: set("NEGATIVE_PROMPT"; .),
            strength: number("STRENGTH"),
            stream_options: set("PREVIEW"; ascii_downcase
                | if . == "faster" then {preview_faster: true}
                  elif IN("1", "true", "on", "yes") then {preview: true}
                  elif IN("0", "false", "off", "no") then null
                  else error("PREVIEW must be true, faster or false, not \(.)") end),
        } | given' >"$work/settings.json" 2>"$work/errors" || die "$(complaint)" 2
}

# The request, to $work/request.json. It streams: else there would be nothing to see for a long time.
readonly STREAMED='. + {stream: true, stream_options: (.stream_options // {}
    | {include_usage: true, preview: (.preview // false), preview_faster: (.preview_faster // false)})}'

# Asks for the prompt "$1".
prompt_request() {
    printf '%s' "$1" | jq -Rs --slurpfile settings "$work/settings.json" \
        "\$settings[0] + {prompt: .} | $STREAMED" >"$work/request.json"
}

# Asks for what the file "$1" says, a request as JSON. It wins over the environment.
file_request() {
    [[ -r $1 ]] || die "cannot read $1" 2
    jq -s --slurpfile settings "$work/settings.json" "
        if length != 1 then error(\"one JSON value is needed\") else .[0] end
        | if type != \"object\" or (.prompt | type) != \"string\" then error(\"a prompt is missing\") else . end
        | if has(\"image\") then error(\"the image comes from IMAGE\") else . end
        | \$settings[0] + . | $STREAMED" "$1" >"$work/request.json" 2>"$work/errors" || die "$1: $(complaint)" 2
}

# Copies the file $1 to $2$3, or to $2-2$3 … where that is taken; prints the name.
keep() {
    local number=1 path=$2$3
    until (umask "$mode" && set -o noclobber && : >"$path") 2>/dev/null; do
        [[ -e $path ]] || die "cannot write $path"
        path=$2-$((++number))$3
    done
    cat -- "$1" >"$path" || die "cannot write $path"
    printf '%s\n' "$path"
}

# A line about what goes on; on a terminal the next one takes its place.
progress() {
    if [[ -t 2 ]]; then
        printf '\r\033[K%s' "$1" >&2
    else
        printf '%s\n' "$1" >&2
    fi
}

clear_progress() {
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
}

# Reads what PICTURES makes; saves the pictures under names that begin with $1 and end with $2. The names of those that
# are finished go to stdout.
receive() {
    local number percent step finished length picture LC_ALL=C
    while read -r number percent step finished length; do
        picture=
        ((length == 0)) || IFS= read -r -N "$length" picture || die "a picture broke off"
        progress "image $number: $percent%, step $step"
        [[ -n $picture ]] || continue
        printf '%s' "$picture" | base64 -d >"$work/picture" || die "a picture is no base64"
        clear_progress
        if [[ $finished == true ]]; then
            keep "$work/picture" "$1-$number" "$2"
        else
            keep "$work/picture" "$1-$number-step-$step" "$2" >&2
        fi
    done
    clear_progress
}

# Sends the request, saves what comes, prints the figures.
make_images() {
    local began=${EPOCHREALTIME/,/.} status ending name
    ending=.$(jq -r '.output_format // "png" | strings' "$work/request.json")
    [[ $ending =~ ^\.[a-z]{1,8}$ ]] || ending=.png
    name=$output/image-$(date +%Y%m%d-%H%M%S)
    post 2>"$work/errors" | tee -- "$work/raw" | jq -Rrnj --unbuffered "$EVENTS $PICTURES" | receive "$name" "$ending"
    status=("${PIPESTATUS[@]}")
    ((status[3] == 0)) || return 1
    is_whole "${status[0]}" || return 1
    jq -Rrn --argjson began "$began" --argjson ended "${EPOCHREALTIME/,/.}" \
        "$EVENTS (\$ended - \$began) as \$seconds | $IMAGE_FIGURES" "$work/raw" >&2
}

# Lines of the input, each a prompt. One that fails is no reason to stop.
converse() {
    local line failed=0
    while ask || [[ -n $line ]]; do
        [[ -n $line ]] || continue
        prompt_request "$line"
        make_images || failed=1
    done
    return "$failed"
}

# What the script was called with: a prompt, @FILE, or nothing for a conversation.
run() {
    if (($# == 0)); then
        converse
        return
    fi
    case $1 in
    @*) file_request "${1#@}" ;;
    *) prompt_request "$1" ;;
    esac
    make_images
}
