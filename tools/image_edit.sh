#!/usr/bin/env bash
# Makes images from the image IMAGE and a prompt, and saves them. See image.md.
#
#   IMAGE=FILE [MASK=FILE] image_edit.sh PROMPT        once
#   IMAGE=FILE [MASK=FILE] image_edit.sh @FILE.json    once, from a request
#   IMAGE=FILE [MASK=FILE] image_edit.sh               a prompt a line, until the input ends; each edits IMAGE

set -uo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tools/image_lib.sh
source "$here/image_lib.sh"

# A form's lines for curl: the request's fields, and the files. The fields are not for the command line, where other
# users could read them.
readonly FORM='
to_entries[] | "\(.key)=\(.value | if type == "string" then . else tojson end)"
| explode | map(select(. == 9 or . == 10 or . == 13 or (. >= 32 and . != 127))) | implode
| "form-string = \(tojson)"'

# Copies what the variable $1 names to the form's file $2. Their own names would have to be quoted for curl.
attach() {
    local path=${!1-}
    [[ -n $path ]] || return 0
    if ! cp -- "$path" "$work/$2" 2>"$work/errors"; then
        die "$1: cannot read $path" 2
    fi
    printf 'form = "%s=@%s"\n' "$2" "$2" >>"$work/files"
}

post() {
    jq -r "$FORM" "$work/request.json" | cat -- - "$work/files" >"$work/form" &&
        cd -- "$work" &&
        curl --silent --show-error --no-buffer --fail-with-body --header @headers --config form \
            -- "$API_URL/v1/images/edits"
}

help_if_asked "$@"
(($# <= 1)) || die "one prompt, in quotation marks, or one @FILE" 2
[[ -n ${IMAGE-} ]] || die "IMAGE: which image is to be edited?" 2
# shellcheck disable=SC2119
begin
attach IMAGE image
attach MASK mask
attach CONTROL control
run "$@"
