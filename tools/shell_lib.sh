# shellcheck shell=bash
# What all the scripts share. To be sourced.

API_URL=${API_URL:-http://127.0.0.1:8080}
API_URL=${API_URL%/}

# What arrives, in objects. jq reads lines.
# shellcheck disable=SC2034
readonly EVENTS='
def events: inputs | rtrimstr("\r") | select(startswith("data: ")) | .[6:] | select(. != "[DONE]") | fromjson?;
def round1: . * 10 | round / 10;
'

# Fields from the environment; an empty variable counts as not set.
# shellcheck disable=SC2034
readonly SETTINGS='
def set(name; convert): env[name] // "" | if . == "" then null else convert end;
def number(name): set(name; (tonumber? // error("\(name) must be a number, not \(.)")));
def boolean(name): set(name; ascii_downcase
    | if IN("1", "true", "on", "yes") then true
      elif IN("0", "false", "off", "no") then false
      else error("\(name) must be true or false, not \(.)") end);
def given: with_entries(select(.value != null));
'

# Says what is wrong.
warn() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
}

# Says what is wrong, and gives up.
die() {
    warn "$1"
    exit "${2:-1}"
}

# Shows the lines at the top of the script, and ends, where that is what $1 asks for.
help_if_asked() {
    case ${1-} in
    -h | --help)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    esac
}

# Checks that the programs are there, and makes the directory $work, which goes with the script.
open_work() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || die "$program is needed and not installed" 2
    done
    umask 077
    work=$(mktemp -d) || die "cannot make a temporary directory"
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# The request's headers, those given and the key, in a file: on the command line every user of the machine could read it.
write_headers() {
    [[ ${API_KEY-} != *[[:cntrl:]]* ]] || die "API_KEY must be plain text" 2
    {
        (($# == 0)) || printf '%s\n' "$@"
        [[ -z ${API_KEY-} ]] || printf 'Authorization: Bearer %s\n' "$API_KEY"
    } >"$work/headers"
}

# What jq complained about in $work/errors.
complaint() {
    sed -E 's/^jq: (error( \(at [^)]*\))?: )?//' "$work/errors"
}

# Reads a line of the input into "line" of its caller.
# shellcheck disable=SC2034
ask() {
    if [[ -t 0 ]]; then
        IFS= read -rep '> ' line
    else
        IFS= read -r line
    fi
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

# Whether a stream, in $work/raw, came whole; says why not. $1 is curl's status; its words are in $work/errors.
is_whole() {
    if (($1 != 0)) || jq -Rne "$EVENTS any(events; has(\"error\"))" "$work/raw" >/dev/null; then
        warn "$(reason "$work/raw" "$work/errors")"
        return 1
    fi
    if ! grep -q '^data: \[DONE\]' "$work/raw"; then
        warn "the answer broke off"
        return 1
    fi
}
