#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 400
# needs: kernels
#
# The vsock device of real, unmodified Linux guests: both directions, bulk, many connections, ends, stalls, pause.
#
#     tests/lab/test_vsock.sh            all
#     tests/lab/test_vsock.sh NAME...    those named; --list lists them
#
# Uses /dev/kvm where `mayfly doctor` finds it faithful, otherwise one lab for all. KERNEL_DEFAULT and KERNEL_DEB612 (a directory with
# bzImage and initrd) name other kernels. KEEP=DIR keeps what the guests printed. The bytes are made and compared by vsock_peer.c.
set -u
cd "$(dirname "$0")/../.." || exit 1

suite=vsock
. tests/lab/guest_lib.sh

# On the machine that calls.
prepare() {
	prepare_kernels KERNEL_DEFAULT KERNEL_DEB612
	export VSOCK_PEER GUEST_INITRD
	VSOCK_PEER=$(guest_program vsock_peer) || setup_failed "building $here/vsock_peer.c failed, see above"
	VSOCK_PEER=$PWD/$VSOCK_PEER
	GUEST_INITRD=$(tests/images/mkroot.sh --initrd --file "$VSOCK_PEER:/bin/vsock-peer") ||
		setup_failed 'tests/images/mkroot.sh failed, see above'
}

# ---- What the tests are written with ----------------------------------------------------------------------------------
PORT=7000
guest() { # [KERNEL_ARGUMENTS]
	uds=$dir/v.sock
	also=(PUT /vsock "{\"guest_cid\": 3, \"uds_path\": \"$uds\"}")
	initrd=${initrd:-$GUEST_INITRD}
	args="console=ttyS0 quiet reboot=k panic=1 ${1:-} mayfly.cmd=\\\"vsock-peer guest $PORT\\\""
}
debian_guest() {
	guest mayfly.init=/sbin/init
	image=$KERNEL_DEB612/bzImage
	cat "$initrd" "$KERNEL_DEB612/initrd" >"$dir/initrd"
	initrd=$dir/initrd
}
boot() { # returns 1 when the guest is not ready in time
	start_by_api
	[ -z "$failure" ] && await_text 'vsock-peer: ready' 40
}
servers=()
serve() { # VERB PORT
	"$VSOCK_PEER" "$1" "$uds" "$2" >/dev/null 2>&1 &
	servers+=($!)
	local i
	for i in {1..100}; do [ -S "${uds}_$2" ] && return; nap 0.02; done
}
clean_up() {
	[ ${#servers[@]} -eq 0 ] || kill "${servers[@]}" 2>/dev/null
	servers=()
}
# vsock-peer's verb @2 with the rest, which must be done.
peer() { # WHAT VERB ARGUMENTS...
	local what=$1 verb=$2 got
	shift 2
	got=$(timeout 60 "$VSOCK_PEER" "$verb" "$uds" "$@" 2>&1)
	[ "$got" = done ] || failure+="
    $what (vsock-peer $verb UDS $*): expected 'done', got '$got'"
}
descriptors() { local all=("/proc/$pid/fd/"*); echo ${#all[@]}; }
# Resident KiB of the monitor without the guest's memory.
monitor_rss() {
	awk '/^[0-9a-f]+-[0-9a-f]+ / { big = 0 } /^Size:/ { big = $2 >= 32768 && $2 != 261888 } /^Rss:/ && !big { n += $2 } END { print n }' \
		"/proc/$pid/smaps"
}
# What the I/O thread takes in two seconds, in microseconds.
io_cpu_in_2s() {
	local before after _
	read -r before _ <"/proc/$pid/task/$pid/schedstat"
	nap 2
	read -r after _ <"/proc/$pid/task/$pid/schedstat"
	echo $(((after - before) / 1000))
}
idle() { # WHAT
	local used
	used=$(io_cpu_in_2s)
	[ "$used" -lt 20000 ] || failure+="
    CPU time of the I/O thread in 2 s $1: expected less than 20000 us, got $used"
}
everything_works() { # BYTES
	serve echo 8000
	peer 'host to guest' sink $PORT "$1"
	peer 'guest to host' source $PORT "$1"
	peer 'both, half-closed by the host' half $PORT "$1"
	peer 'both, half-closed by the guest' ask $PORT dial 8000 "$1"
	peer 'the line in pieces' pieces $PORT
	peer 'a port where nobody listens in the guest' refused 9
	peer 'a port where nobody listens on the host' ask $PORT refused 9
	peer 'the guest dials, one after another' ask $PORT rounds 8000 50
	peer 'the host dials, one after another' churn $PORT 50
}

# ---- The tests --------------------------------------------------------------------------------------------------------
test_shipped_1() {
	guest
	boot || return
	everything_works 1500000
	idle 'after it'
}
test_shipped_4() {
	guest
	vcpus=4
	boot || return
	everything_works 1500000
	# Six at once, both ways.
	local i jobs=()
	for i in 1 2 3; do
		timeout 60 "$VSOCK_PEER" source "$uds" $PORT 3000000 >"$dir/at$i" & jobs+=($!)
		timeout 60 "$VSOCK_PEER" sink "$uds" $PORT 3000000 >"$dir/at$i" & jobs+=($!)
	done
	for i in "${jobs[@]}"; do
		wait "$i" || failure+="
    six at once: expected success, got $(cat "$dir"/at?)"
	done
}
test_debian_2() {
	debian_guest
	vcpus=2 mem=256
	boot || return
	everything_works 1000000
	peer 'many at once from the host' many $PORT 50
}

# The socket is there as soon as it is configured, takes a mode, and host programs may connect before the guest runs; it goes with the
# monitor.
test_socket_file() {
	guest
	launch --api-sock "$sock"
	await_socket || return
	api PUT /machine-config "$(json_machine)" PUT /boot-source "$(json_boot)" "${also[@]}"
	expect 'replies' '204 204 204' "$codes"
	chmod 640 "$uds"
	expect 'mode of the socket' 640 "$(stat -c %a "$uds")"
	"$VSOCK_PEER" sink "$uds" $PORT 1000 >"$dir/early" &
	local early=$!
	api PUT /actions '{"action_type": "InstanceStart"}'
	wait $early
	expect 'a program that connected before the start' 'done' "$(<"$dir/early")"
	kill -TERM "$pid"
	wait "$pid" 2>/dev/null
	pid=
}

# 220 at once each way, then thousands one after another: descriptors and memory stay where they are.
test_many() {
	local fds rss
	guest
	mem=256
	boot || return
	serve echo 8000
	peer 'warm-up' many $PORT 5
	peer 'at once from the host' many $PORT 220
	peer 'at once from the guest' ask $PORT dials 8000 220
	nap 2.5
	fds=$(descriptors)
	rss=$(monitor_rss)
	peer 'the guest dials' ask $PORT rounds 8000 1000
	peer 'the host dials' churn $PORT 300
	nap 2.5
	expect 'descriptors after 1300 more connections' "$fds" "$(descriptors)"
	[ "$(monitor_rss)" -le $((rss + 200)) ] || failure+="
    resident memory: expected at most $((rss + 200)) KiB, got $(monitor_rss)"
	idle 'after it'
}

# A program that does not read, and one that does not accept bytes back, beside one that does.
test_stalled() {
	local hold
	guest
	vcpus=2
	boot || return
	serve stall 8001
	"$VSOCK_PEER" hold "$uds" $PORT >/dev/null 2>&1 &
	hold=$!
	timeout 60 "$VSOCK_PEER" ask "$uds" $PORT dial 8001 3000000 >/dev/null 2>&1 &
	servers+=($!)
	nap 4 # until both are full
	idle 'while two are stalled'
	peer 'host to guest beside them' sink $PORT 3000000
	peer 'guest to host beside them' source $PORT 3000000
	kill $hold
	wait $hold 2>/dev/null
	peer 'when one has gone' source $PORT 1000
	idle 'when one has gone'
}

# Connections live through a pause in the middle of their traffic.
test_pause() {
	local job i
	guest
	vcpus=2
	boot || return
	timeout 60 "$VSOCK_PEER" half "$uds" $PORT 20000000 >"$dir/half" &
	job=$!
	for i in 1 2 3; do
		nap 0.1
		api PATCH /vm '{"state": "Paused"}'
		expect 'reply to Paused' 204 "$codes"
		[ "$codes" = 204 ] || break
		[ $i -lt 3 ] || idle 'while paused'
		api PATCH /vm '{"state": "Resumed"}'
		expect 'reply to Resumed' 204 "$codes"
	done
	wait $job
	expect 'bulk both ways, paused three times' 'done' "$(<"$dir/half")"
}

names=$(declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside) shift; run_tests "$@"; exit $? ;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
run_here_or_in_lab 380 3072 "$@"
