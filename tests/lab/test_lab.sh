#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Tests of the lab itself. `test_lab.sh` runs all, `test_lab.sh NAME...` those named, `test_lab.sh --list` lists them.
# time-limit: 900
#
# Prints "ok NAME" or "not ok NAME" with what was expected and what came; ends with 1 when any failed.
set -u

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
lab=$here/lab
tmp=$(mktemp -d "${TMPDIR:-/tmp}/test_lab.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
export TMPDIR=$tmp/tmpdir # what the lab would leave behind, if it left anything
mkdir "$TMPDIR"

# expect WHAT EXPECTED GOT: records a failure of the running test when they differ.
expect() {
	[ "$2" = "$3" ] && return
	failure="$failure
    $1: expected '$2', got '$3'"
}

# expect_match WHAT PATTERN FILE: some line of FILE matches.
expect_match() {
	grep -qE -- "$2" "$3" && return
	failure="$failure
    $1: expected a line like '$2', got:
$(tail -n 20 "$3" | sed 's/^/        /')"
}

# Processes of this test's labs, found by a variable that every child inherits.
marked_processes() {
	local pid
	for pid in /proc/[0-9]*; do
		[ "${pid#/proc/}" != $$ ] && [ "${pid#/proc/}" != "$BASHPID" ] || continue
		tr '\0' '\n' 2>/dev/null <"$pid/environ" | grep -qx "LAB_TEST_MARK=$1" &&
			tr '\0' ' ' <"$pid/cmdline" | cut -c1-60
	done 2>/dev/null
}

# Everything a lab could have made a file in. (Another lab may be filling the cache: its tmp.* are not ours.)
files_about() {
	find "$TMPDIR" /run/virtiofsd -mindepth 1 2>/dev/null
	find "${MAYFLY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mayfly}/lab" -mindepth 1 -maxdepth 1 -not -name 'tmp.*'
}

# Run a lab, kill it with signal $1 when $2 (boot or command) is under way, and look at what is left.
kill_halfway() {
	local signal=$1 phase=$2 mark=$RANDOM$RANDOM before after pid status i left
	before=$(files_about)
	LAB_TEST_MARK=$mark "$lab" -- sh -c 'echo up; sleep 100' >"$tmp/out" 2>"$tmp/err" &
	pid=$!
	if [ "$phase" = boot ]; then
		sleep 1
	else
		for i in $(seq 300); do
			grep -q up "$tmp/out" && break
			sleep 0.1
		done
	fi
	expect "processes while it runs" yes "$([ -n "$(marked_processes "$mark")" ] && echo yes)"
	kill -s "$signal" "$pid"
	wait "$pid" 2>/dev/null
	status=$?
	expect "status" $((128 + $(kill -l "$signal"))) "$status"
	for i in $(seq 30); do # the kernel's signal to the children of the dead is quick, but not part of wait
		left=$(marked_processes "$mark")
		[ -z "$left" ] && break
		sleep 0.1
	done
	after=$(files_about)
	expect "processes left" "" "$left"
	expect "files left" "$before" "$after"
}

kvm_guest() {
	[ -x "$tmp/kvm_guest" ] || gcc -O2 -static -o "$tmp/kvm_guest" "$here/test_kvm_guest.c"
}

# --- the tests -----------------------------------------------------------------------------------------------------

test_status() {
	"$lab" -- sh -c 'exit 7'
	expect "exit 7" 7 $?
	"$lab" -- sh -c 'kill -9 $$'
	expect "killed by signal 9" 137 $?
	"$lab" -- /no/such/program 2>"$tmp/err"
	expect "no such program" 127 $?
	expect_match "its message" 'cannot run /no/such/program: No such file' "$tmp/err"
}

test_time_limit() {
	local t0=$SECONDS
	"$lab" --timeout 25 -- sleep 100 2>"$tmp/err"
	expect "status" 124 $?
	expect_match "message" 'lab: the time limit of 25 s is over: sleep' "$tmp/err"
	expect "ended in time" yes "$([ $((SECONDS - t0)) -le 30 ] && echo yes)"
}

test_lab_failure() {
	"$lab" --append rdinit=/none -- true 2>"$tmp/err"
	expect "status" 125 $?
	expect_match "message" 'lab: L1 died before the command could start' "$tmp/err"
	expect_match "end of the console" 'Kernel panic' "$tmp/err"
}

test_bad_option() {
	"$lab" --cpus many -- true 2>"$tmp/err"
	expect "status" 125 $?
	expect_match "message" "lab: --cpus takes a number from 1 to 64, not 'many'" "$tmp/err"
	"$lab" 2>"$tmp/err"
	expect "status without a command" 125 $?
}

test_output_clean() {
	head -c 3000000 /dev/urandom >"$tmp/a"
	head -c 200000 /dev/urandom >"$tmp/b"
	"$lab" -- sh -c 'cat "$1"; cat "$2" >&2' - "$tmp/a" "$tmp/b" >"$tmp/out" 2>"$tmp/err"
	expect "status" 0 $?
	expect "stdout is the same bytes" yes "$(cmp "$tmp/a" "$tmp/out" && echo yes)"
	expect "stderr is the same bytes" yes "$(cmp "$tmp/b" "$tmp/err" && echo yes)"
}

test_stdin() {
	head -c 3000000 /dev/urandom >"$tmp/a"
	"$lab" --stdin -- cat <"$tmp/a" >"$tmp/out"
	expect "status" 0 $?
	expect "the same bytes came back" yes "$(cmp "$tmp/a" "$tmp/out" && echo yes)"
	expect "without --stdin" 0 "$(echo text | "$lab" -- wc -c)"
	yes | "$lab" --stdin -- head -c 10 >"$tmp/out"
	expect "a command that reads only a part of it" 10 "$(wc -c <"$tmp/out")"
}

test_like_here() {
	local dir="$tmp/a dir"
	mkdir "$dir"
	expect "directory, arguments, environment" "$dir|a  b|
|c|it's" "$(cd "$dir" && VALUE="it's" "$lab" -- sh -c 'echo "$PWD|$1|$2|$3|$VALUE"' - 'a  b' '
' c)"
}

test_nothing_lasts_but_the_share() {
	mkdir "$tmp/share" "$tmp/other"
	"$lab" --share "$tmp/share" -- sh -c 'echo 1 >"$1/share/x" && echo 1 >"$1/other/x" && echo 1 >/etc/lab-was-here' - "$tmp"
	expect "status" 0 $?
	expect "written in the share" 1 "$(cat "$tmp/share/x")"
	expect "written elsewhere" "" "$(find "$tmp/other" /etc/lab-was-here -type f 2>/dev/null)"
}

test_killed() {
	kill_halfway TERM command
	kill_halfway KILL command
	kill_halfway INT boot
	kill_halfway KILL boot
	kill_halfway HUP command
}

test_reader_gone() {
	"$lab" -- sh -c 'seq 1000000; exit 3' | head -n 1 >"$tmp/out"
	expect "status" 3 "${PIPESTATUS[0]}"
	expect "first line" 1 "$(cat "$tmp/out")"
}

test_side_by_side() {
	local a b
	"$lab" -- sh -c 'echo a; sleep 2; exit 3' >"$tmp/a" &
	a=$!
	"$lab" -- sh -c 'echo b; sleep 2; exit 4' >"$tmp/b" &
	b=$!
	wait $a
	expect "status of the first" 3 $?
	wait $b
	expect "status of the second" 4 $?
	expect "output" "a b" "$(cat "$tmp/a" "$tmp/b" | xargs)"
}

test_kvm() {
	kvm_guest
	expect "output" "api 12, guest said 42" "$("$lab" -- "$tmp/kvm_guest")"
	expect "in turn" "api 12, guest said 42" "$("$lab" --single -- "$tmp/kvm_guest")"
}

test_host_is_complete() {
	"$lab" --thp madvise -- sh -c '
		set -e
		cat /sys/kernel/mm/transparent_hugepage/enabled
		test -c /dev/net/tun && test -d /dev/pts && test -w /dev/shm && test -e /dev/fd/0 && test -w /tmp
		grep -q "^cgroup2 /sys/fs/cgroup " /proc/mounts
		grep -q "^tmpfs /srv tmpfs" /proc/mounts && grep -q "^tmpfs /run tmpfs" /proc/mounts
		ping -c 1 -W 2 127.0.0.1 >/dev/null 2>&1 || grep -q "lo:" /proc/net/dev
		modprobe vhost_vsock && test -c /dev/vhost-vsock
		grep -q mitigations=off /proc/cmdline' >"$tmp/out" 2>"$tmp/err"
	expect "status" 0 $?
	expect "stderr" "" "$(cat "$tmp/err")"
	expect "huge pages" "always [madvise] never" "$(cat "$tmp/out")"
}

test_icount_repeats() {
	local times=() i
	kvm_guest
	for i in 0 1; do
		# From tmpfs: what touches the file system of this machine makes the virtual clock leap.
		"$lab" --icount -- sh -c '
			mkdir /srv/dev && mount --bind /dev /srv/dev && cp "$1" /srv/g && exec chroot /srv /g 20
			' - "$tmp/kvm_guest" >"$tmp/out" 2>"$tmp/err"
		expect "status" "0, no messages" "$?, $(cat "$tmp/err" && echo no messages)"
		times+=("$(cat "$tmp/out")")
	done
	expect "virtual time of two runs (${times[*]} ns) within a per cent" yes \
		"$(echo "${times[@]}" | awk '{ d = $1 - $2; if (d < 0) d = -d; if ($1 > 0 && d * 100 <= $1) print "yes" }')"
}

# --- the runner ----------------------------------------------------------------------------------------------------

all=$(declare -F | sed -n 's/^declare -f test_//p')
[ "${1:-}" = --list ] && { echo "$all"; exit 0; }
[ $# -gt 0 ] || set -- $all
"$lab" --prepare 2>"$tmp/err" || { cat "$tmp/err"; exit 1; }
n_failed=0
for name; do
	failure=
	if declare -F "test_$name" >/dev/null; then "test_$name"; else failure=" there is no such test"; fi
	if [ -z "$failure" ]; then
		echo "ok $name"
	else
		echo "not ok $name$failure
    alone: tests/lab/test_lab.sh $name"
		n_failed=$((n_failed + 1))
	fi
done
[ "$n_failed" -eq 0 ]
