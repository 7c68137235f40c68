# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_net.sh: rate limiters, guests that do not read, floods. What costs the host nothing, and what goes on.

# Rate limiters as JSON: bytes a second; packets a second; a bucket that gives one packet and then nothing for an hour.
bandwidth() { printf '{"bandwidth": {"size": %s, "refill_time": 500}}' $(($1 / 2)); }
packets() { printf '{"ops": {"size": %s, "refill_time": 500}}' $(($1 / 2)); }
shut='{"ops": {"size": 1, "refill_time": 3600000}}'
patch_limits() { # FIELDS
	api PATCH /network-interfaces/eth0 "{\"iface_id\": \"eth0\", $1}"
	expect "reply to PATCH $1" 204 "$codes"
}
limited_guest() { # FIELDS WORDS
	tap 0
	iface eth0 "\"host_dev_name\": \"mft0\"$1"
	vcpus=2
	guest "ip=eth0,10.99.0.2/24 ${2:-}"
	boot
}

# ---- Limits ------------------------------------------------------------------------------------------------------------
# Payload is 96 % of a full frame of 1514 bytes and more of a large one; the first bucket is full, so it is waited for.
test_limit_tx_bandwidth() {
	limited_guest ", \"tx_rate_limiter\": $(bandwidth 4000000)" || return
	peer 'rate' rate-get 10.99.0.2 7000 1000 2000 && near 'guest to host, bytes/s' 3950000 "$got" 12
	peer 'the other way' put 10.99.0.2 7000 10000000 && below 'the other way is free: ms for what would take 2000' 1500 "${got#* }"
	# Lower, higher, lifted, while it runs.
	patch_limits "\"tx_rate_limiter\": $(bandwidth 1000000)"
	peer 'rate' rate-get 10.99.0.2 7000 1000 2000 && near 'lowered, bytes/s' 985000 "$got" 15
	"$NET_PEER" rate-get 10.99.0.2 7000 2000 2000 >"$dir/rate" &
	nap 0.5
	patch_limits "\"tx_rate_limiter\": $(bandwidth 3000000)"
	wait $!
	near 'raised in mid-stream, bytes/s' 2950000 "$(<"$dir/rate")" 15
	patch_limits '"tx_rate_limiter": {"bandwidth": {"size": 0, "refill_time": 0}}'
	peer 'lifted' get 10.99.0.2 7000 10000000 && below 'lifted: ms for what took 2800' 2500 "${got#* }"
}

test_limit_rx_bandwidth() {
	limited_guest ", \"rx_rate_limiter\": $(bandwidth 4000000)" || return
	peer 'rate' rate-put 10.99.0.2 7000 1000 2000 && near 'host to guest, bytes/s' 3950000 "$got" 12
	peer 'the other way' get 10.99.0.2 7000 10000000 && below 'the other way is free: ms for what would take 2000' 1500 "${got#* }"
	patch_limits "\"rx_rate_limiter\": $(bandwidth 1000000)"
	peer 'rate' rate-put 10.99.0.2 7000 1500 2000 && near 'lowered, bytes/s' 985000 "$got" 15
	patch_limits '"rx_rate_limiter": {"bandwidth": {"size": 0, "refill_time": 0}}'
	peer 'lifted' put 10.99.0.2 7000 5000000 && below 'lifted: ms for what took 4500' 3000 "${got#* }"
}

# Datagrams are packets. A flood of 3 s through 400 packets/s: the first bucket's 200, and 1,200 more.
test_limit_packets() {
	local n
	limited_guest ", \"rx_rate_limiter\": $(packets 400), \"tx_rate_limiter\": $(packets 400)" || return
	peer 'reset the counter' count 10.99.0.2 7000
	peer 'flood' flood 10.99.0.2 7000 100 3000
	patch_limits '"rx_rate_limiter": {"ops": {"size": 0, "refill_time": 0}}'
	n=$got
	nap 0.5 # what waits in the tap's queue
	peer 'count' count 10.99.0.2 7000
	above 'datagrams sent' 5000 "$n"
	# The tap's own queue of 500 (net.core: txqueuelen 1000) comes on top when the limit is lifted.
	above 'datagrams that arrived' 1250 "${got% *}"
	below 'datagrams that arrived' 2900 "${got% *}"
	# From the guest: the host's server counts.
	peer 'reset the counter' count 127.0.0.1 7000
	in_guest 'flood from the guest' '' 10.99.0.2 'net-peer flood 10.99.0.1 7000 100 3000 > /dev/null'
	peer 'count' count 127.0.0.1 7000
	near 'datagrams from the guest in 3 s' 1450 "${got% *}" 20
}

# Waiting for tokens is waiting: no thread looks again and again.
test_limit_shut() {
	limited_guest ", \"tx_rate_limiter\": $shut, \"rx_rate_limiter\": {\"bandwidth\": {\"size\": 1000000, \"refill_time\": 3600000}}" beat ||
		return
	"$NET_PEER" flood 10.99.0.2 7000 1000 6000 >/dev/null &
	nap 2 # both buckets are empty
	io_load 2
	below 'load of the I/O thread, throttled both ways under a flood, permille' 20 "$permille"
	answers
	wait $!
	patch_limits '"tx_rate_limiter": {"ops": {"size": 0, "refill_time": 0}}, "rx_rate_limiter": {"bandwidth": {"size": 0, "refill_time": 0}}'
	pings 'when the limits are lifted' 10.99.0.2
	bulk 10.99.0.2 7000 3000000
}

# ---- Floods ------------------------------------------------------------------------------------------------------------
# Small datagrams from the host faster than one vCPU takes them, as long as FLOOD_S says.
test_flood_in() {
	local before beats_before seconds=${FLOOD_S:-5}
	tap 0
	iface eth0 '"host_dev_name": "mft0"'
	guest 'beat ip=eth0,10.99.0.2/24'
	boot || return
	"$NET_PEER" flood 10.99.0.2 7000 64 500 >/dev/null
	monitor_rss
	before=$rss beats_before=$(beats)
	NET_PEER_S=$((seconds + 60)) "$NET_PEER" flood 10.99.0.2 7000 18 $((seconds * 1000)) >"$dir/sent1" &
	NET_PEER_S=$((seconds + 60)) "$NET_PEER" flood 10.99.0.2 7000 1400 $((seconds * 1000)) >"$dir/sent2"
	wait $!
	above 'beats of the guest during the flood' 0 $(($(beats) - beats_before))
	monitor_rss
	below 'growth of the monitor, KiB' 256 $((rss - before))
	pings 'after the flood' 10.99.0.2
	peer 'count' count 10.99.0.2 7000
	above 'datagrams that arrived' 1000 "${got% *}"
	bulk 10.99.0.2 7000 3000000
	answers
}

# A guest that never looks: its receive ring fills once, and then the flood is the kernel's to drop.
test_flood_deaf() {
	limited_guest '' 'beat' || return
	in_guest 'stop looking' '' 10.99.0.2 '(sleep 1; ip link set eth0 down) > /dev/null 2>&1 &'
	nap 2
	ip neigh replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev mft0 nud permanent
	"$NET_PEER" flood 10.99.0.2 7000 200 4000 >/dev/null &
	nap 1
	io_load 2
	below 'load of the I/O thread under a flood that nobody reads, permille' 20 "$permille"
	answers
	wait $!
	above 'beats of the guest' 3 "$(beats)"
}

test_flood_out() {
	local before job
	limited_guest '' beat || return
	"$NET_PEER" run 10.99.0.2 7000 'net-peer flood 10.99.0.1 9 18 500' >/dev/null # port 9: nobody
	monitor_rss
	before=$rss
	"$NET_PEER" run 10.99.0.2 7000 'net-peer flood 10.99.0.1 9 18 3000 & net-peer flood 10.99.0.1 9 1400 3000; wait' >"$dir/sent" &
	job=$!
	nap 1
	answers
	pings 'during the flood' 10.99.0.2
	wait $job
	above 'datagrams sent' 1000 "$(head -n 1 "$dir/sent")"
	monitor_rss
	below 'growth of the monitor, KiB' 256 $((rss - before))
	bulk 10.99.0.2 7000 3000000
}

test_idle() {
	limited_guest '' || return
	pings ping 10.99.0.2
	nap 1
	io_load 2
	below 'load of the I/O thread with an idle interface, permille' 5 "$permille"
}
