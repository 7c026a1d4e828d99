#!/usr/bin/env bash
# Makes images from a prompt, and saves them. See image.md.
#
#   image_generate.sh PROMPT        once
#   image_generate.sh @FILE.json    once, from a request
#   image_generate.sh               a prompt a line, until the input ends

set -uo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd) || exit 1
# shellcheck source=tools/image_lib.sh
source "$here/image_lib.sh"

post() {
    curl --silent --show-error --no-buffer --fail-with-body --header "@$work/headers" \
        --data-binary "@$work/request.json" -- "$API_URL/v1/images/generations"
}

help_if_asked "$@"
(($# <= 1)) || die "one prompt, in quotation marks, or one @FILE" 2
begin 'Content-Type: application/json'
run "$@"
