# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_net.sh: interfaces on tap devices. What a guest sees of them, and that every byte arrives.

# ---- A matrix of kernels, vCPUs and offloads ---------------------------------------------------------------------------
everything_works() { # ADDRESS BYTES
	pings 'ping' "$1"
	pings 'ping with large packets' "$1" -s 20000
	in_guest 'MAC address' 06:00:ac:10:00:02 "$1" 'cat /sys/class/net/eth0/address'
	in_guest 'MTU' 1420 "$1" 'cat /sys/class/net/eth0/mtu'
	bulk "$1" 7000 "$2"
	peer 'small datagrams' udp "$1" 7000 1 50
	peer 'datagrams of a packet' udp "$1" 7000 1392 50
	peer 'datagrams in fragments' udp "$1" 7000 60000 5
}
plain_iface() { iface eth0 '"host_dev_name": "mft0", "guest_mac": "06:00:AC:10:00:02", "mtu": 1420'; }

test_tap_shipped_1() {
	tap 0 1420
	plain_iface
	guest ip=eth0,10.99.0.2/24
	boot || return
	everything_works 10.99.0.2 8000000
}

test_tap_shipped_4() {
	tap 0 1420
	plain_iface
	vcpus=4
	guest ip=eth0,10.99.0.2/24
	boot || return
	everything_works 10.99.0.2 8000000
	# Many at once, both ways.
	local i jobs=()
	for i in 1 2 3; do
		"$NET_PEER" get 10.99.0.2 7000 2000000 >/dev/null 2>"$dir/get$i" & jobs+=($!)
		"$NET_PEER" put 10.99.0.2 7000 2000000 >/dev/null 2>"$dir/put$i" & jobs+=($!)
	done
	for i in "${jobs[@]}"; do
		wait "$i" || failure+="
    six at once: expected success, got $(cat "$dir"/get? "$dir"/put?)"
	done
}

test_tap_debian_2() {
	tap 0 1420
	plain_iface
	vcpus=2 mem=256
	debian_guest ip=eth0,10.99.0.2/24
	boot || return
	everything_works 10.99.0.2 5000000
}

# A guest that wants no checksums and no segments made for it: what it sends is whole, and of at most an MTU.
test_tap_no_offloads() {
	tap 0 1420
	plain_iface
	vcpus=2
	guest ip=eth0,10.99.0.2/24 'virtio_net.csum=0 virtio_net.gso=0'
	boot || return
	everything_works 10.99.0.2 5000000
}

# iperf3 is a program that others wrote.
test_tap_iperf3() {
	local direction
	tap 0
	iface eth0 '"host_dev_name": "mft0"'
	vcpus=2 mem=256 initrd=$GUEST_INITRD_IPERF
	guest ip=eth0,10.99.0.2/24
	boot || return
	in_guest 'start iperf3' '' 10.99.0.2 'iperf3 -s -D'
	for direction in '' -R '-u -b 20M'; do
		# shellcheck disable=SC2086
		timeout 30 iperf3 -c 10.99.0.2 -t 2 -f m $direction >"$dir/iperf" 2>&1
		got=$(sed -n 's/.* \([0-9.]*\) Mbits\/sec .*receiver$/\1/p' "$dir/iperf")
		above "iperf3 $direction, Mbit/s" 5 "${got%.*}"
		[ -n "$got" ] || failure+="
$(tail -n 5 "$dir/iperf" | sed 's/^/        /')"
	done
}

# ---- Fields ------------------------------------------------------------------------------------------------------------
# Frames of the largest MTU that a tap has, without and with segmentation. What the guest is told is what it uses.
test_tap_jumbo() {
	tap 0 65521
	iface eth0 '"host_dev_name": "mft0", "mtu": 65521'
	guest ip=eth0,10.99.0.2/24
	boot || return
	in_guest 'MTU' 65521 10.99.0.2 'cat /sys/class/net/eth0/mtu'
	local before=$(</sys/class/net/mft0/statistics/tx_packets)
	pings 'ping with 65,493 bytes' 10.99.0.2 -s 65493
	below 'packets for three of them (they are not cut)' 10 $(($(</sys/class/net/mft0/statistics/tx_packets) - before))
	bulk 10.99.0.2 7000 10000000
	in_guest 'set an MTU of 9000' '' 10.99.0.2 'ip link set eth0 mtu 9000'
	ip link set mft0 mtu 9000
	bulk 10.99.0.2 7000 5000000
	peer 'datagrams' udp 10.99.0.2 7000 8900 20
}

# A descriptor that somebody else opened: the monitor needs no right to open a tap.
test_tap_inherited() {
	tap 0
	as=("$NET_PEER" with-tap mft0 9)
	iface eth0 '"tap_fd": 9'
	guest ip=eth0,10.99.0.2/24
	boot || return
	pings ping 10.99.0.2
	bulk 10.99.0.2 7000 5000000
}

# In the order in which they were named, each with its own way.
test_tap_two() {
	tap 0
	tap 1
	iface second '"host_dev_name": "mft1", "guest_mac": "06:00:00:00:00:01"'
	iface first '"host_dev_name": "mft0", "guest_mac": "06:00:00:00:00:00"'
	vcpus=2
	guest 'ip=eth0,10.99.1.2/24 ip=eth1,10.99.0.2/24'
	boot || return
	in_guest 'MAC addresses' '06:00:00:00:00:01
06:00:00:00:00:00' 10.99.1.2 'cat /sys/class/net/eth0/address /sys/class/net/eth1/address'
	"$NET_PEER" get 10.99.1.2 7000 5000000 >/dev/null 2>"$dir/second" &
	bulk 10.99.0.2 7000 5000000
	wait $! || failure+="
    the other interface meanwhile: expected success, got $(<"$dir/second")"
}

# The monitor stops and goes on in the midst of it.
test_tap_pause() {
	local i job
	tap 0
	iface eth0 '"host_dev_name": "mft0"'
	vcpus=2
	guest ip=eth0,10.99.0.2/24
	boot || return
	"$NET_PEER" put 10.99.0.2 7000 60000000 >/dev/null 2>"$dir/put" &
	job=$!
	"$NET_PEER" get 10.99.0.2 7000 60000000 >/dev/null 2>"$dir/get" &
	for i in 1 2 3; do
		api PATCH /vm '{"state": "Paused"}'
		expect 'reply to a pause' 204 "$codes"
		if [ $i = 2 ]; then
			quiet 'paused under traffic' 20
		fi
		api PATCH /vm '{"state": "Resumed"}'
		expect 'reply to a resume' 204 "$codes"
		nap 0.1
	done
	wait $! || failure+="
    guest to host: expected success, got $(<"$dir/get")"
	wait $job || failure+="
    host to guest: expected success, got $(<"$dir/put")"
}

# What a person does wrong is said, and nothing is left behind.
test_tap_refused() {
	local i calls=() wanted
	tap 0
	exec 8</dev/null
	as=("$NET_PEER" with-tap mft0 9)
	launch --api-sock "$sock"
	await_socket || return
	for i in '"host_dev_name": "mft0"' '"host_dev_name": "sixteen-letters0"' '"tap_fd": 7' '"tap_fd": 8' '"passt_socket": "/nowhere"' \
		'"host_dev_name": "x", "passt_socket": "/nowhere"' '"guest_mac": "06:00:00:00:00:01"'; do
		calls+=(PUT /network-interfaces/a "{\"iface_id\": \"a\", $i}")
	done
	api "${calls[@]}" GET /vm/config ''
	exec 8<&-
	expect 'replies' '400 400 400 400 400 400 400 200' "$codes"
	for wanted in '/nowhere' 'passt --socket' '"network-interfaces":[]'; do
		expect_in 'replies' "$wanted" "$dir/reply"
	done
}
