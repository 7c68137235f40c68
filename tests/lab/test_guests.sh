#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 900
#
# Real, unmodified Linux guests in the real monitor: a matrix of kernels, root devices, vCPUs, memory sizes and ways to find
# devices (guests_matrix.sh), and how a microVM begins, pauses, idles and ends (guests_life.sh).
#
#     tests/lab/test_guests.sh            all
#     tests/lab/test_guests.sh NAME...    those named; --list lists them
#
# Uses /dev/kvm where `mayfly doctor` finds it faithful, otherwise one lab for all. Kernels come from `mayfly-rootfs kernel`
# (minutes the first time); KERNEL_DEFAULT, KERNEL_DEFAULT_BZIMAGE, KERNEL_MINIMAL, KERNEL_ACPI_NOPCI, KERNEL_DEB61 and KERNEL_DEB612 (the
# last two are directories with bzImage and initrd) name others instead. KEEP=DIR, in the lab a directory given with `lab --share`, keeps
# what the guests printed.
# Each test is a line "ok NAME" or "not ok NAME", the latter with what was expected and what came.
set -u
cd "$(dirname "$0")/../.." || exit 1

B=${B:-build}
vmm=${VMM:-$B/mayfly-vmm}
here=tests/lab
. $here/guests_matrix.sh
. $here/guests_life.sh

# ---- On the machine that calls: kernels, images, the lab ------------------------------------------------------------
setup_failed() { # WHAT
	printf 'not ok guests/setup\n    %s\n' "$1"
	exit 1
}
kernel() { # OPTIONS...: prints where it is
	"$B/mayfly-rootfs" kernel --print-path "$@" || exit 1
}
prepare() {
	make -s "$vmm" "$B/mayfly-rootfs" "$B/mayfly" >&2 || setup_failed 'make failed, see above'
	mkdir -p "$B/lab"
	if [ ! "$B/lab/guest-mem" -nt $here/guest_mem.c ]; then
		"${CC:-gcc}" -O2 -static -o "$B/lab/guest-mem.$$" $here/guest_mem.c && mv "$B/lab/guest-mem.$$" "$B/lab/guest-mem" ||
			setup_failed "building $here/guest_mem.c failed, see above"
	fi
	local files=(--file "$B/lab/guest-mem:/bin/guest-mem" --file "$here/guest_check.sh:/bin/guest-check")
	export GUEST_ROOT GUEST_INITRD KERNEL_DEFAULT KERNEL_DEFAULT_BZIMAGE KERNEL_MINIMAL KERNEL_ACPI_NOPCI KERNEL_DEB61 KERNEL_DEB612
	GUEST_ROOT=$(tests/images/mkroot.sh --ext4 "${files[@]}") || setup_failed 'tests/images/mkroot.sh --ext4 failed, see above'
	GUEST_INITRD=$(tests/images/mkroot.sh --initrd "${files[@]}") || setup_failed 'tests/images/mkroot.sh --initrd failed, see above'
	: "${KERNEL_DEFAULT:=$(kernel)}" "${KERNEL_DEFAULT_BZIMAGE:=$(kernel --bzimage)}" "${KERNEL_MINIMAL:=$(kernel --config minimal)}" \
		"${KERNEL_ACPI_NOPCI:=$(kernel --config default+acpi-nopci)}"
	: "${KERNEL_DEB61:=$(kernel --distro --suite-version 6.1)}" "${KERNEL_DEB612:=$(kernel --distro --suite-version 6.12)}"
	local k
	for k in "$KERNEL_DEFAULT" "$KERNEL_DEFAULT_BZIMAGE" "$KERNEL_MINIMAL" "$KERNEL_ACPI_NOPCI" \
		"$KERNEL_DEB61/bzImage" "$KERNEL_DEB612/bzImage"; do
		[ -s "$k" ] || setup_failed "a kernel is missing: '$k'"
	done
}

# ---- Where KVM is (often emulated, and starting a process is slow there): what bash can do itself, it does -----------
nap() { read -rt "$1" -u "$never" || :; } # SECONDS

expect() { # WHAT EXPECTED GOT
	[ "$2" = "$3" ] && return
	failure+="
    $1: expected '$2', got '$3'"
}
expect_in() { # WHAT TEXT FILE
	case $(<"$3") in *"$2"*) return ;; esac
	failure+="
    $1: expected a line with '$2', got:
$(tail -n 8 "$3" | tr -d '\r' | sed 's/^/        /')"
}
# The end of the console, when something went wrong: without it nobody knows why.
evidence() {
	[ -n "$failure" ] || return 0
	failure+="
    the end of the console, of standard error and of the log:
$(for f in "$dir/out" "$dir/err" "$dir/log"; do tail -n 6 "$f" 2>/dev/null | tr -d '\r' | cut -c1-200 | sed 's/^/        /'; done)"
}

# The configuration file's text for the machine of these variables.
vcpus=1 smt=false mem=128 huge=None image='' initrd='' args='' drives=()
drive() { # ID PATH ROOT READ_ONLY [MORE]
	drives+=("{\"drive_id\": \"$1\", \"path_on_host\": \"$2\", \"is_root_device\": $3, \"is_read_only\": $4${5:-}}")
}
json_machine() { printf '{"vcpu_count": %s, "smt": %s, "mem_size_mib": %s, "huge_pages": "%s"}' "$vcpus" "$smt" "$mem" "$huge"; }
json_boot() {
	printf '{"kernel_image_path": "%s", "boot_args": "%s"' "$image" "$args"
	[ -z "$initrd" ] || printf ', "initrd_path": "%s"' "$initrd"
	printf '}'
}
write_config() {
	local IFS=,
	printf '{"machine-config": %s, "boot-source": %s, "drives": [%s]}\n' "$(json_machine)" "$(json_boot)" "${drives[*]}" >"$dir/config"
}

launch() { # OPTIONS...: the monitor, in the background
	: >"$dir/out" >"$dir/err" >"$dir/log"
	"$vmm" --log-path "$dir/log" --level Debug --id guest "$@" >"$console" 2>"$dir/err" </dev/null &
	pid=$!
}
await_socket() {
	local i
	for i in {1..300}; do [ -S "$sock" ] && return 0; nap 0.02; done
	failure+="
    API socket: expected one at $sock within 6 s, got none"
	return 1
}
# Requests in one go (a curl costs 0.3 s in the lab): METHOD PATH BODY triples. Sets `codes`; bodies of the replies are in $dir/reply.
api() {
	local call=()
	while [ $# -gt 0 ]; do
		[ ${#call[@]} -eq 0 ] || call+=(--next)
		call+=(-sS --max-time 20 --unix-socket "$sock" -X "$1" -w '\n%{http_code}\n' "http://localhost$2")
		[ -z "$3" ] || call+=(-d "$3")
		shift 3
	done
	curl "${call[@]}" >"$dir/reply" 2>&1
	codes=$(grep -xE '[0-9]{3}' "$dir/reply" | tr '\n' ' ')
	codes=${codes% }
}
# Configure and start through the API what the variables say.
start_by_api() {
	local calls=(PUT /machine-config "$(json_machine)" PUT /boot-source "$(json_boot)") d id wanted='204 204 204'
	for d in "${drives[@]}"; do
		id=${d#*: \"}
		calls+=(PUT "/drives/${id%%\"*}" "$d")
		wanted+=' 204'
	done
	launch --api-sock "$sock"
	await_socket || return
	api "${calls[@]}" PUT /actions '{"action_type": "InstanceStart"}'
	expect 'replies to the configuration and the start' "$wanted" "$codes"
	[ "$wanted" = "$codes" ] || cat "$dir/reply" >>"$dir/err"
}
start_by_file() {
	write_config
	launch --no-api --config-file "$dir/config"
}

await_end() { # SECONDS: sets `status`
	local until=$((SECONDS + $1))
	while kill -0 "$pid" 2>/dev/null; do
		if [ $SECONDS -ge $until ]; then
			failure+="
    end: expected within $1 s, got a monitor that still runs (killed)"
			kill -KILL "$pid"
			break
		fi
		nap 0.05
	done
	wait "$pid" 2>/dev/null
	status=$?
	pid=
}
await_text() { # TEXT SECONDS: on the console
	local until=$((SECONDS + $2)) text
	while text=$(<"$dir/out"); do
		case $text in *"$1"*) return 0 ;; esac
		if [ $SECONDS -ge $until ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
		nap 0.1
	done
	failure+="
    console: expected '$1' within $2 s"
	return 1
}
last_log_line() { expect_in 'last line of the log' "$1" <(tail -n 1 "$dir/log"); }

# After the monitor's end: nothing that was not there before.
nothing_left() {
	local before=$1 after p
	after=$(cd "$dir" && echo *)
	expect 'files of the guest' "$before" "$after"
	for p in /proc/[0-9]*; do
		[ ! "$p/exe" -ef "$vmm" ] || failure+="
    processes: expected no monitor, got one with id ${p#/proc/}"
	done
	expect 'files in /run and /dev/shm' "$places" "$(places)"
}
places() { echo /run/* /dev/shm/*; }

fresh() { # NAME: a clean slate for the next guest
	dir=$tmp/$1 sock=$tmp/$1/sock console=$tmp/$1/out
	pid='' status='' codes='' failure=''
	vcpus=1 smt=false mem=128 huge=None image=$KERNEL_DEFAULT initrd='' args='' drives=()
	mkdir -p "$dir"
}

run_one() { # NAME
	if declare -F "test_$1" >/dev/null; then "test_$1"; else run_combination "$1"; fi
	if [ -n "$pid" ]; then kill -KILL "$pid"; wait "$pid" 2>/dev/null; pid=; fi
}

# Did the test fail because a secondary CPU of a guest died? Linux patches its text while they come up, and the emulator with a
# thread for each CPU does not order that (LAB.md); emulating them in turn takes three times as long. Not on a real /dev/kvm.
emulator_fault() {
	[ -n "$failure" ] && [ -z "${REAL_KVM:-}" ] && grep -qE 'vCPU [1-9][0-9]* had a triple fault' "$dir/log" 2>/dev/null
}

run_tests() {
	local name start n_failed=0
	for d in /srv "${TMPDIR:-/tmp}"; do tmp=$(mktemp -d -p "$d" guests.XXXXXX 2>/dev/null) && break; done
	mkfifo "$tmp/never"
	exec {never}<>"$tmp/never"
	pid=
	trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT
	places=$(places)
	for name; do
		fresh "$name"
		start=${EPOCHREALTIME/./}
		run_one "$name"
		if emulator_fault; then
			echo "    $name: a CPU that came up had a triple fault, which the lab's emulator is known for; once more"
			rm -rf "$dir"
			fresh "$name"
			run_one "$name"
		fi
		evidence
		[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP/$name" && cp "$dir/out" "$dir/err" "$dir/log" "$KEEP/$name/" 2>/dev/null; }
		rm -rf "$dir"
		if [ -z "$failure" ]; then
			printf 'ok guests/%s\n' "$name"
		else
			printf 'not ok guests/%s%s\n    alone: tests/lab/test_guests.sh %s\n' "$name" "$failure" "$name"
			n_failed=$((n_failed + 1))
		fi
		printf '    %d ms\n' $(((${EPOCHREALTIME/./} - start) / 1000))
	done
	[ $n_failed -eq 0 ]
}

names=$(all_combinations; declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside) shift; run_tests "$@"; exit ;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
if "$B/mayfly" doctor --quiet; then REAL_KVM=1 exec "$0" --inside "$@"; fi
share=()
if [ -n "${KEEP:-}" ]; then mkdir -p "$KEEP"; KEEP=$(readlink -f "$KEEP"); export KEEP; share=(--share "$KEEP"); fi
exec $here/lab --timeout 880 --mem 6144 "${share[@]}" -- "$PWD/$here/test_guests.sh" --inside "$@"
