# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For test scripts: print results as tests/run reads them, and end with the right status. Source it, call ok, not_ok,
# skip or the checks, and end with `finish`.

results_failed=0

ok() { printf 'ok %s\n' "$1"; }
not_ok() { # NAME EXPECTED GOT
	printf 'not ok %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
	results_failed=1
}
skip() { printf 'skip %s %s\n' "$1" "$2"; } # NAME REASON

check_equal() { # NAME EXPECTED GOT
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "$2" "$3"; fi
}
check_contains() { # NAME TEXT WHOLE
	case $3 in
	*"$2"*) ok "$1" ;;
	*) not_ok "$1" "something with: $2" "$3" ;;
	esac
}
finish() { exit "$results_failed"; }
