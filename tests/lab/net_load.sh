# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_net.sh: rate limiters, guests that do not read, floods. What costs the host nothing, and what goes on.
# eth0 (10.99.0.2) is the interface under test, over eth1 (10.99.1.2) the guest is asked.

# Rate limiters as JSON: bytes a second, packets a second. A bucket lasts 500 ms: tokens are looked at every 100, on a busy machine later.
bandwidth() { printf '{"bandwidth": {"size": %s, "refill_time": 500}}' $(($1 / 2)); }
packets() { printf '{"ops": {"size": %s, "refill_time": 500}}' $(($1 / 2)); }
no_bandwidth='{"bandwidth": {"size": 0, "refill_time": 0}}'
no_packets='{"ops": {"size": 0, "refill_time": 0}}'
patch_limits() { # FIELDS
	api PATCH /network-interfaces/eth0 "{\"iface_id\": \"eth0\", $1}"
	expect "reply to PATCH $1" 204 "$codes"
}
loaded_guest() { # VCPUS [FIELDS [WORDS]]
	tap 0
	tap 1
	iface eth0 "\"host_dev_name\": \"mft0\"${2:-}"
	iface eth1 '"host_dev_name": "mft1"'
	vcpus=$1
	guest "ip=eth0,10.99.0.2/24 ip=eth1,10.99.1.2/24 ${3:-}"
	boot
}
# The rate in which datagrams of a flood arrive at the net-peer of @1, a second: `got`.
arrivals() { # ADDRESS
	local start=${EPOCHREALTIME/./}
	peer 'begin to count' count "$1" 7000 || return
	nap 2
	peer 'count' count "$1" 7000 || return
	got=$((${got% *} * 1000000 / (${EPOCHREALTIME/./} - start)))
}
# A limit is never exceeded; on a busy machine it may take a few looks to see it reached. The command measures and sets `got`.
rate() { # WHAT EXPECTED PERCENT COMMAND...
	local what=$1 expected=$2 percent=$3 i
	shift 3
	for i in 1 2 3 4 5 6; do
		"$@" || return
		[ "$got" -lt $((expected * (100 - percent) / 100)) ] || break
	done
	near "$what" "$expected" "$got" "$percent"
}

# ---- Limits ------------------------------------------------------------------------------------------------------------
# Payload is 96 % of a full frame of 1514 bytes, and more of a large one. The first bucket is full: it is waited for.
test_limit_tx() {
	loaded_guest 2 ", \"tx_rate_limiter\": $(bandwidth 600000)" || return
	peer 'the other way' put 10.99.0.2 7000 4000000 && below 'the other way is free: ms for what would take 6100' 4500 "${got#* }"
	rate 'guest to host, bytes/s' 590000 15 peer rate rate-get 10.99.0.2 7000 1000 2000
	"$NET_PEER" rate-get 10.99.0.2 7000 4000 1500 >"$dir/rate" &
	nap 0.5
	patch_limits "\"tx_rate_limiter\": $(bandwidth 2000000)"
	wait $!
	above 'raised in mid-stream, bytes/s' 650000 "$(<"$dir/rate")"
	rate 'raised, bytes/s' 1970000 12 peer rate rate-get 10.99.0.2 7000 1000 2000
	patch_limits "\"tx_rate_limiter\": $no_bandwidth"
	peer 'lifted' get 10.99.0.2 7000 8000000 && below 'lifted: ms for what would take 3500' 3000 "${got#* }"
	# Packets: datagrams, counted by the host's server.
	patch_limits "\"tx_rate_limiter\": $(packets 400)"
	"$NET_PEER" run 10.99.1.2 7000 'net-peer flood 10.99.0.1 7000 100 20000' >/dev/null 2>&1 &
	nap 1.5
	rate 'packets from the guest a second' 400 12 arrivals 127.0.0.1
	kill $!
}

test_limit_rx() {
	loaded_guest 2 ", \"rx_rate_limiter\": $(bandwidth 600000)" || return
	peer 'the other way' get 10.99.0.2 7000 4000000 && below 'the other way is free: ms for what would take 6100' 4500 "${got#* }"
	rate 'host to guest, bytes/s' 590000 15 peer rate rate-put 10.99.0.2 7000 1500 2000
	patch_limits "\"rx_rate_limiter\": $(bandwidth 2000000)"
	rate 'raised, bytes/s' 1970000 12 peer rate rate-put 10.99.0.2 7000 1000 2000
	patch_limits "\"rx_rate_limiter\": $no_bandwidth"
	peer 'lifted' put 10.99.0.2 7000 8000000 && below 'lifted: ms for what would take 3500' 3000 "${got#* }"
	patch_limits "\"rx_rate_limiter\": $(packets 400)"
	"$NET_PEER" flood 10.99.0.2 7000 100 20000 >/dev/null &
	nap 1.5
	rate 'packets to the guest a second' 400 12 arrivals 10.99.1.2
	kill $!
}

# ---- Nothing for nothing -------------------------------------------------------------------------------------------------
# No thread looks again and again at an idle interface, at tokens that are to come, at a guest that reads no more.
test_quiet() {
	loaded_guest 2 || return
	quiet 'with idle interfaces' 5

	patch_limits '"tx_rate_limiter": {"ops": {"size": 1, "refill_time": 3600000}},
		"rx_rate_limiter": {"bandwidth": {"size": 1000000, "refill_time": 3600000}}'
	"$NET_PEER" flood 10.99.0.2 7000 1000 6000 >/dev/null &
	nap 2 # both buckets are empty
	quiet 'throttled both ways under a flood' 20
	answers
	wait $!
	patch_limits "\"tx_rate_limiter\": $no_packets, \"rx_rate_limiter\": $no_bandwidth"
	pings 'when the limits are lifted' 10.99.0.2
	bulk 10.99.0.2 7000 2000000

	# A guest whose interface is down: its receive ring fills once, then the flood is the kernel's to drop.
	in_guest 'stop looking' '' 10.99.1.2 'ip link set eth0 down'
	ip neigh replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev mft0 nud permanent
	"$NET_PEER" flood 10.99.0.2 7000 200 4000 >/dev/null &
	nap 1
	quiet 'under a flood that nobody reads' 20
	pings 'the other interface meanwhile' 10.99.1.2
	wait $!
	ip neigh del 10.99.0.2 dev mft0
	in_guest 'look again' '' 10.99.1.2 'ip link set eth0 up'
	pings 'when it looks again' 10.99.0.2
}

# ---- Floods ------------------------------------------------------------------------------------------------------------
# Datagrams of both sizes faster than one vCPU takes them, as long as FLOOD_S says; then the guest's own.
test_flood() {
	local before beats_before job seconds=${FLOOD_S:-5}
	export NET_PEER_S=$((seconds + 60))
	loaded_guest 1 '' beat || return
	"$NET_PEER" flood 10.99.0.2 7000 64 500 >/dev/null
	"$NET_PEER" run 10.99.1.2 7000 'net-peer flood 10.99.0.1 9 18 300' >/dev/null # port 9: nobody
	monitor_rss
	before=$rss beats_before=$(beats)
	"$NET_PEER" flood 10.99.0.2 7000 18 $((seconds * 1000)) >"$dir/sent1" &
	"$NET_PEER" flood 10.99.0.2 7000 1400 $((seconds * 1000)) >"$dir/sent2"
	wait $!
	above 'beats of the guest during the flood' 0 $(($(beats) - beats_before))
	pings 'after the flood' 10.99.0.2
	peer 'count' count 10.99.1.2 7000
	above 'datagrams that arrived' 1000 "${got% *}"

	"$NET_PEER" run 10.99.1.2 7000 'net-peer flood 10.99.0.1 9 18 3000 & net-peer flood 10.99.0.1 9 1400 3000; wait' >"$dir/sent" &
	job=$!
	nap 1
	answers
	pings 'during the flood' 10.99.0.2
	wait $job
	above 'datagrams sent' 1000 "$(head -n 1 "$dir/sent")"
	monitor_rss
	below 'growth of the monitor, KiB' 256 $((rss - before))
	bulk 10.99.0.2 7000 2000000
	answers
}
