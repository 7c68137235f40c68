#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 120
#
# The tap back end's unit test where taps can always be made.
#
#     tests/lab/test_tap.sh
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/results.sh

B=${B:-build}
make -s "$B/asan/test_net_tap" >&2 || { not_ok tap/build 'a test that builds' 'see above'; finish; }
out=$(CMOCKA_MESSAGE_OUTPUT=STDOUT ASAN_OPTIONS=detect_leaks=0 tests/lab/lab --cpus 1 -- "$PWD/$B/asan/test_net_tap" 2>&1)
status=$?
check_equal tap/exit-status 0 $status
check_equal tap/skipped 0 "$(grep -c '\[  SKIPPED \]' <<<"$out")"
for name in both_ways features busy_and_wrong_names adopt duplicate removed; do
	if grep -q "\[       OK \] $name" <<<"$out"; then ok "tap/$name"; else not_ok "tap/$name" OK "$out"; fi
done
finish
