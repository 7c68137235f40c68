#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
# needs: kernels
#
# All devices of one microVM at once: disks of each engine and kind, a network interface and vsock, all under load with every byte
# compared, while the microVM is paused and resumed and its devices are changed through the API. Then a clean end, with nothing lost.
#
#     tests/lab/test_all_devices.sh            all
#     tests/lab/test_all_devices.sh NAME...    those named; --list lists them
#
# As test_guests.sh: /dev/kvm where it is faithful, otherwise one lab for all; KEEP=DIR keeps what guests printed. Needs root, for the tap.
set -u
cd "$(dirname "$0")/../.." || exit 1

suite=all_devices
. tests/lab/guest_lib.sh

# On the machine that calls.
prepare() {
	prepare_kernels KERNEL_DEFAULT KERNEL_DEB612
	local p files=()
	export GUEST_TOOLS NET_PEER VSOCK_PEER
	for p in disk_records net_peer vsock_peer; do
		p=$(guest_program $p) || setup_failed "building $here/$p.c failed, see above"
		files+=(--file "$p:/bin/${p##*/}")
	done
	NET_PEER=$PWD/$B/lab/net-peer VSOCK_PEER=$PWD/$B/lab/vsock-peer
	GUEST_TOOLS=$(tests/images/mkroot.sh "${files[@]}" --file "$here/disk_lib.sh:/bin/disk-lib") || setup_failed 'tests/images/mkroot.sh failed, see above'
}

# ---- In the lab ------------------------------------------------------------------------------------------------------
disk() { # ID PATH ENGINE CACHE [DELTA]
	drive "$1" "$2" false false ", \"io_engine\": \"$3\", \"cache_type\": \"$4\"${5:+, \"delta_path\": \"$5\"}"
}
machine() { # KERNEL VCPUS
	case $1 in
	tuned) image=$KERNEL_DEFAULT ;;
	debian) image=$KERNEL_DEB612/bzImage initrd=$KERNEL_DEB612/initrd ;;
	esac
	vcpus=$2 mem=192
	args='console=ttyS0 quiet loglevel=4 reboot=k panic=1 mayfly.script=/dev/vdb'
	cat >"$dir/script" <<-'END'
		. /bin/disk-lib
		ip addr add 10.98.0.2/24 dev eth0
		ip link set eth0 up
		net-peer serve 7000 'mark: net up' &
		vsock-peer guest 7000 &
		for d in vdd vde vdf vdg; do disk-records churn /dev/$d 4 & done
		go 1
		[ "$(ps | grep -c '[d]isk-records churn')" = 4 ] || bad 'writers of disks' '4 that still run' "$(ps | grep '[d]isk-records')"
		killall disk-records
		wait %3 %4 %5 %6
		forget_cache
		for d in vdd vde vdf vdg; do mark $d $(md5 /dev/$d); done
	END
	head -c 512 /dev/zero | tr '\0' '\n' >>"$dir/script"
	seq 1 800000 | head -c 4M >"$dir/base"
	: >"$dir/signal"
	truncate -s 4M "$dir/sync" "$dir/async"
	drive root "$GUEST_TOOLS" true true
	drive script "$dir/script" false true
	disk signal "$dir/signal" Sync Unsafe
	disk sync "$dir/sync" Sync Writeback
	disk async "$dir/async" Async Writeback
	disk cow_sync "$dir/base" Sync Writeback "$dir/delta-sync"
	disk cow_async "$dir/base" Async Writeback "$dir/delta-async"
	ip -force -batch - 2>/dev/null <<-END
		link del mfa0
		tuntap add dev mfa0 mode tap
		link set dev mfa0 up
		addr add 10.98.0.1/24 dev mfa0
	END
	uds=$dir/v.sock
	also=(PUT /network-interfaces/eth0 '{"iface_id": "eth0", "host_dev_name": "mfa0", "guest_mac": "06:00:ac:10:00:02"}'
		PUT /vsock "{\"guest_cid\": 3, \"uds_path\": \"$uds\"}")
}
clean_up() { ip link del mfa0 2>/dev/null; }

jobs_failed() { # WHAT PIDS...: waits for them
	local p what=$1
	shift
	for p; do
		wait "$p" || failure+="
    $what: expected every transfer to succeed, got:
$(cat "$dir"/job.* 2>/dev/null | head -n 6 | sed 's/^/        /')"
	done
}
descriptors() { local all=("/proc/$pid/fd/"*); echo ${#all[@]}; }
# Resident KiB of the monitor without the guest's memory, which is marked as not to be dumped.
monitor_rss() {
	awk '/^Rss:/ { rss = $2 } /^VmFlags:/ && !/ dd/ { sum += rss } END { print sum }' "/proc/$pid/smaps"
}
limiter() { printf '{"bandwidth": {"size": %s, "refill_time": 100}}' "$1"; } # BYTES in 100 ms; 0: none
# Transfers in each direction over each way, and meanwhile what an operator may do.
round() { # BYTES
	local b=$1 p=() l wanted='204 204 204 204 204 204 204 204'
	export NET_PEER_S=90
	"$NET_PEER" get 10.98.0.2 7000 "$b" >"$dir/job.get" 2>&1 & p+=($!)
	"$NET_PEER" put 10.98.0.2 7000 "$b" >"$dir/job.put" 2>&1 & p+=($!)
	timeout 90 "$VSOCK_PEER" sink "$uds" 7000 "$b" >"$dir/job.sink" 2>&1 & p+=($!)
	timeout 90 "$VSOCK_PEER" source "$uds" 7000 "$b" >"$dir/job.source" 2>&1 & p+=($!)
	for l in 400000 0; do
		api PATCH /vm '{"state": "Paused"}' PATCH /vm '{"state": "Resumed"}' \
			PATCH /drives/sync "{\"drive_id\": \"sync\", \"path_on_host\": \"$dir/sync\", \"rate_limiter\": $(limiter $l)}" \
			PATCH /drives/async "{\"drive_id\": \"async\", \"path_on_host\": \"$dir/async\", \"rate_limiter\": $(limiter $l)}" \
			PATCH /drives/cow_async "{\"drive_id\": \"cow_async\", \"rate_limiter\": $(limiter $l)}" \
			PATCH /network-interfaces/eth0 "{\"iface_id\": \"eth0\", \"rx_rate_limiter\": $(limiter $l), \"tx_rate_limiter\": $(limiter $l)}" \
			PATCH /vm '{"state": "Paused"}' PATCH /vm '{"state": "Resumed"}'
		expect 'replies to what an operator does' "$wanted" "$codes"
		[ "$codes" = "$wanted" ] || cat "$dir/reply" >>"$dir/err"
	done
	jobs_failed "transfers of $b bytes" "${p[@]}"
}

everything() { # KERNEL VCPUS
	local base_sum rss fds more d
	machine "$1" "$2"
	base_sum=$(md5sum <"$dir/base")
	start_by_api
	await_text 'mark: net up' 60 && await_text 'vsock-peer: ready' 30 || return
	for d in vdd vde vdf vdg; do await_text "churning /dev/$d" 60 || return; done
	round 300000 # a first one, for what is touched once
	rss=$(monitor_rss) fds=$(descriptors)
	round 1000000
	round 1000000
	more=$(($(monitor_rss) - rss))
	[ $more -le 512 ] || expect 'growth of the monitor in two rounds' 'at most 512 KiB' "$more KiB"
	[ "$(monitor_rss)" -le 16384 ] || expect 'the monitor without guest memory' 'at most 16 MiB' "$(monitor_rss) KiB"
	# The guest's end of a connection may be the last to go.
	for d in {1..50}; do [ "$(descriptors)" -gt "$fds" ] || break; nap 0.1; done
	[ "$(descriptors)" -le "$fds" ] || expect 'descriptors of the monitor' "at most $fds" "$(descriptors)"
	truncate -s 512 "$dir/signal"
	api PATCH /drives/signal "{\"drive_id\": \"signal\", \"path_on_host\": \"$dir/signal\"}"
	expect 'reply to PATCH /drives/signal' 204 "$codes"
	await_end 90
	expect 'exit status' 0 "$status"
	expect_in console 'mayfly-init: exit 0' "$dir/out"
	expect 'findings in the guest' '' "$(tr -d '\r' <"$dir/out" | grep -a '^bad: ' | head -n 5)"
	for d in vdd:sync vde:async; do
		expect "what is on the host of $d" "$(tr -d '\r' <"$dir/out" | sed -n "s/^mark: ${d%:*} //p")" \
			"$(md5sum <"$dir/${d#*:}" | cut -d ' ' -f 1)"
	done
	expect 'hash of the base' "$base_sum" "$(md5sum <"$dir/base")"
	[ ! -e "$uds" ] || rm -f "$uds"
}
test_tuned2() { everything tuned 2; }
test_tuned4() { everything tuned 4; }
test_debian2() { everything debian 2; }
test_debian4() { everything debian 4; }

names=$(declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside) shift; run_tests "$@"; exit ;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
run_here_or_in_lab 580 4096 "$@"
