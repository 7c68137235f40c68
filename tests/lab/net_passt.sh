# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_net.sh: passt. Both it and the monitor run as nobody, without any privilege.

# Start passt on $dir/passt with the options of @2..., and say that the monitor runs as the same user. The guest finds the host's loopback
# behind the router's address, 10.99.7.1, and its own address is the host's, 10.99.7.2.
unprivileged=(setpriv --reuid 65534 --regid 65534 --clear-groups)
passt_up() { # OPTIONS...
	local i
	chmod 711 "$tmp"
	chmod 777 "$dir"
	chmod 666 /dev/kvm
	cp "$KERNEL_DEFAULT" "$dir/kernel"
	cp "$GUEST_INITRD" "$dir/initrd"
	chmod 644 "$dir/kernel" "$dir/initrd"
	image=$dir/kernel initrd=$dir/initrd
	umask 000
	as=("${unprivileged[@]}")
	"${unprivileged[@]}" passt -f -q -4 -m 65520 --socket "$dir/passt" "$@" >"$dir/passt.out" 2>&1 </dev/null &
	passt=$!
	for i in {1..200}; do [ -S "$dir/passt" ] && return; nap 0.05; done
	failure+="
    passt: expected its socket within 10 s, got:
$(sed 's/^/        /' "$dir/passt.out")"
}
passt_down() {
	kill -KILL "$passt" 2>/dev/null
	wait "$passt" 2>/dev/null
	umask 022
}

test_passt() {
	local dns
	"$NET_PEER" dnsd 10.99.9.9 53 192.0.2.77 &
	dns=$!
	passt_up -D 10.99.9.9 -t 7001:7000 -u 7001:7000
	iface eth0 "\"passt_socket\": \"$dir/passt\""
	vcpus=2
	guest dhcp=eth0
	if [ -z "$failure" ] && boot; then passt_works; fi
	passt_down
	kill $dns
}
passt_works() {
	# In: a forwarded port.
	bulk 127.0.0.1 7001 5000000
	peer 'UDP in' udp 127.0.0.1 7001 1400 20
	in_passt 'address' 10.99.7.2/24 "ip -4 -o addr show eth0 | sed 's/.*inet //; s/ .*//'"
	# Out: to the host's loopback behind the router's address, and to an address beyond.
	in_passt 'TCP out' '' 'net-peer get 10.99.9.9 7000 3000000 > /dev/null && net-peer put 10.99.7.1 7000 3000000 > /dev/null'
	in_passt 'UDP out' '20 0' 'net-peer udp 10.99.9.9 7000 1000 20'
	in_passt 'DNS' 192.0.2.77 "nslookup -type=a mayfly.test | sed -n '/^Name/,\$ s/Address: //p'"
	pings_from_guest 10.99.9.9
	# Many short ones.
	in_passt 'many connections' 20 'n=0; while [ $n -lt 20 ] && net-peer get 10.99.9.9 7000 1000 > /dev/null; do n=$((n + 1)); done; echo $n'
	# passt does not read for a while: what the guest sends waits, and nobody looks again and again. (It may then end the connection.)
	"$NET_PEER" run 127.0.0.1 7001 'net-peer put 10.99.9.9 7000 8000000' >/dev/null 2>&1 &
	nap 0.7
	kill -STOP "$passt"
	nap 0.5
	quiet 'while passt is stopped' 20
	answers
	kill -CONT "$passt"
	wait $!
	peer 'after passt was stopped' get 127.0.0.1 7001 1000000
	# Nothing to do: nothing done.
	quiet 'idle' 5
	expect 'user of the monitor' 65534 "$(stat -c %u "/proc/$pid")"
}
in_passt() { # WHAT EXPECTED COMMAND
	got=$("$NET_PEER" run 127.0.0.1 7001 "$3" 2>&1)
	expect "$1" "$2" "$got"
}
pings_from_guest() { # ADDRESS
	got=$("$NET_PEER" run 127.0.0.1 7001 "ping -q -c 2 -W 5 $1" 2>&1) || failure+="
    ping $1 from the guest: expected answers, got $got"
}

# It dies in the midst of traffic: no link any more, and that is all.
test_passt_killed() {
	local job before
	passt_up -t 7001:7000
	iface eth0 "\"passt_socket\": \"$dir/passt\""
	guest 'beat dhcp=eth0'
	if [ -z "$failure" ] && boot; then
		"$NET_PEER" put 127.0.0.1 7001 1000000000 >/dev/null 2>&1 &
		job=$!
		"$NET_PEER" run 127.0.0.1 7001 'net-peer put 10.99.9.9 7000 1000000000' >/dev/null 2>&1 &
		nap 1.5
		kill -KILL "$passt"
		wait "$passt" 2>/dev/null
		before=$(beats)
		nap 1.5
		quiet 'without passt' 20
		above 'beats of the guest since' "$before" "$(beats)"
		answers
		expect 'lines of the log about it' 1 "$(grep -c "passt at '$dir/passt'" "$dir/log")"
		kill $job $! 2>/dev/null
	fi
	passt_down
}

# A second microVM on the same passt, which serves one: its start is refused.
test_passt_busy() {
	passt_up
	local first i
	"${unprivileged[@]}" "$NET_PEER" hold-socket "$dir/passt" 2>"$dir/first" &
	first=$!
	nap 0.3
	iface eth0 "\"passt_socket\": \"$dir/passt\""
	guest ip=eth0,10.99.7.2/24
	launch --api-sock "$sock"
	if [ -z "$failure" ] && await_socket; then
		for i in {1..20}; do # as long as it has not accepted the first the second is turned away at once
			api PUT /machine-config "$(json_machine)" PUT /boot-source "$(json_boot)" "${also[@]}"
			[ "$codes" != '204 204 204' ] || break
			nap 0.3
		done
		expect 'replies' '204 204 204' "$codes"
		nap 1
		api PUT /actions '{"action_type": "InstanceStart"}'
		expect 'reply to the start' 400 "$codes"
		expect_in 'reply to the start' 'serves another client' "$dir/reply"
		# When the other has gone, the same again works.
		kill $first
		nap 0.3
		api "${also[@]}" PUT /actions '{"action_type": "InstanceStart"}'
		expect 'replies' '204 204' "$codes"
		await_text 'net-guest: ready' 40
	fi
	passt_down
}
