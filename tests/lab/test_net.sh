#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 600
# needs: kernels
#
# Network interfaces of real, unmodified Linux guests: over tap devices (net_tap.sh), under load and under limits (net_load.sh), and
# through passt without root (net_passt.sh).
#
#     tests/lab/test_net.sh            all
#     tests/lab/test_net.sh NAME...    those named; --list lists them
#
# Uses /dev/kvm where `mayfly doctor` finds it faithful (as root: it makes taps and addresses of 10.99.0.0/16), otherwise one lab for all.
# KERNEL_DEFAULT and KERNEL_DEB612 (a directory with bzImage and initrd) name other kernels. FLOOD_S: seconds that a flood lasts (5).
# KEEP=DIR keeps what the guests printed. Each test is a line "ok NAME" or "not ok NAME", the latter with what was expected and what came.
set -u
cd "$(dirname "$0")/../.." || exit 1

suite=net
. tests/lab/guest_lib.sh
. $here/net_tap.sh
. $here/net_load.sh
. $here/net_passt.sh

# On the machine that calls.
prepare() {
	prepare_kernels KERNEL_DEFAULT KERNEL_DEB612
	local files
	export NET_PEER GUEST_INITRD GUEST_INITRD_IPERF
	NET_PEER=$(guest_program net_peer) || setup_failed "building $here/net_peer.c failed, see above"
	NET_PEER=$PWD/$NET_PEER
	files=(--initrd --file "$NET_PEER:/bin/net-peer" --file "$here/net_guest.sh:/bin/net-guest")
	GUEST_INITRD=$(tests/images/mkroot.sh "${files[@]}") || setup_failed 'tests/images/mkroot.sh failed, see above'
	GUEST_INITRD_IPERF=$(tests/images/mkroot.sh "${files[@]}" --program iperf3) ||
		setup_failed 'tests/images/mkroot.sh --program iperf3 failed, see above'
}

# Where KVM is: names and addresses that all tests use. up0 stands for the way out of this machine, 10.99.9.9 for a host out there.
host_up() {
	sysctl -qw net.ipv4.ping_group_range='0 2147483647' 2>/dev/null
	ip -force -batch - 2>/dev/null <<-'END'
		link set lo up
		link add up0 type veth peer name up1
		link set up1 up
		link set up0 up
		addr add 10.99.7.2/24 dev up0
		addr add 10.99.9.9/32 dev lo
	END
	ip route show default | grep -q . || { ip route add default via 10.99.7.1 dev up0; default_is_ours=yes; }
	"$NET_PEER" serve 7000 &
	server=$!
}
host_down() {
	kill "$server" 2>/dev/null
	[ -z "${default_is_ours:-}" ] || ip route del default via 10.99.7.1 dev up0
	ip -force -batch - 2>/dev/null <<-'END'
		addr del 10.99.9.9/32 dev lo
		link del up0
		link del mft0
		link del mft1
	END
}

# ---- What the tests are written with ----------------------------------------------------------------------------------
# A fresh tap mft@1 with the host's address 10.99.@1.1.
tap() { # NUMBER [MTU]
	ip -force -batch - 2>/dev/null <<-END
		link del mft$1
		tuntap add dev mft$1 mode tap
		link set dev mft$1 mtu ${2:-1500} up
		addr add 10.99.$1.1/24 dev mft$1
	END
}
iface() { # ID FIELDS
	also+=(PUT "/network-interfaces/$1" "{\"iface_id\": \"$1\", $2}")
}
# The guest does what the words for net-guest say, and its /dev/ttyS0 is $dir/out.
guest() { # WORDS [KERNEL_ARGUMENTS]
	initrd=${initrd:-$GUEST_INITRD}
	args="console=ttyS0 quiet reboot=k panic=1 ${2:-} mayfly.cmd=\\\"net-guest $1\\\""
}
debian_guest() { # WORDS
	guest "$1" mayfly.init=/sbin/init
	image=$KERNEL_DEB612/bzImage
	cat "$initrd" "$KERNEL_DEB612/initrd" >"$dir/initrd"
	initrd=$dir/initrd
}
boot() { # returns 1 when the guest is not ready in time
	start_by_api
	[ -z "$failure" ] && await_text 'net-guest: ready' 40
}

# net-peer's verb @2 with the rest, which must be done; its output is `got`.
peer() { # WHAT VERB...
	local what=$1
	shift
	if ! got=$("$NET_PEER" "$@" 2>&1); then
		failure+="
    $what (net-peer $*): expected success, got:
        $got"
		return 1
	fi
}
in_guest() { # WHAT EXPECTED ADDRESS COMMAND
	got=$("$NET_PEER" run "$3" 7000 "$4" 2>&1)
	expect "$1" "$2" "$got"
}
near() { # WHAT EXPECTED GOT PERCENT
	[ "$3" -ge $(($2 * (100 - $4) / 100)) ] 2>/dev/null && [ "$3" -le $(($2 * (100 + $4) / 100)) ] && return
	failure+="
    $1: expected $2 and at most $4 % more or less, got '$3'"
}
below() { # WHAT LIMIT GOT
	[ "$3" -lt "$2" ] 2>/dev/null && return
	failure+="
    $1: expected less than $2, got '$3'"
}
above() { # WHAT LIMIT GOT
	[ "$3" -gt "$2" ] 2>/dev/null && return
	failure+="
    $1: expected more than $2, got '$3'"
}
# Both ways, compared byte by byte.
bulk() { # ADDRESS PORT BYTES
	peer 'guest to host' get "$1" "$2" "$3"
	peer 'host to guest' put "$1" "$2" "$3"
}
pings() { # WHAT ADDRESS [PING_OPTIONS...]
	local what=$1 to=$2
	shift 2
	busybox ping -q -c 3 -i 0.2 -W 5 "$@" "$to" >"$dir/ping" 2>&1 || failure+="
    $what: expected answers to ping $* $to, got:
$(sed 's/^/        /' "$dir/ping")"
}
# CPU time of the I/O thread (the process's first) in microseconds so far: `now_us`.
io_cpu() {
	local ns=0
	read -r ns _ 2>/dev/null <"/proc/$pid/task/$pid/schedstat" || failure+="
    the monitor: expected it to run, it has ended"
	now_us=$((ns / 1000))
}
# What the I/O thread takes in a while, in thousandths of one CPU: `permille`.
io_load() { # SECONDS
	local before t
	io_cpu
	before=$now_us t=${EPOCHREALTIME/./}
	nap "$1"
	io_cpu
	permille=$(((now_us - before) * 1000 / (${EPOCHREALTIME/./} - t)))
}
# A thread that looks again and again does so all the time; one that has nothing to do is quiet in one of five looks, however busy the
# machine is with others (whose time counts here, too, when it is an emulated one).
quiet() { # WHAT LIMIT (permille)
	local i
	for i in 1 2 3 4 5; do
		io_load 0.8
		[ "$permille" -ge "$2" ] || return
	done
	below "load of the I/O thread, $1, permille" "$2" "$permille"
}
# Resident KiB of the monitor without the guest's memory: `rss`.
monitor_rss() {
	rss=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { big = 0 } /^Size:/ { big = $2 >= 32768 } /^Rss:/ && !big { n += $2 } END { print n }' \
		"/proc/$pid/smaps")
}
answers() { # the API does
	api GET / ''
	expect 'GET /' 200 "$codes"
}
beats() { grep -c 'net-guest: beat' "$dir/out"; }

names=$(declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside)
	shift
	host_up
	run_tests "$@"
	status=$?
	host_down
	exit $status
	;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
run_here_or_in_lab 580 4096 "$@"
