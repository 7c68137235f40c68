#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# /bin/net-guest in the guests of test_net.sh: configures interfaces as the words say, then serves (net_peer.c) until the end.
#
#     ip=IFACE,ADDRESS/BITS     a fixed address
#     dhcp=IFACE                ask for one (also a router and name servers)
#     beat                      a line a second on the console: the guest lives, whatever its network does
# Prints "net-guest: ready" when the server listens.
case ${1:-} in
deconfig) ip link set "$interface" up; exit ;;
bound|renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/${mask:-24}" dev "$interface"
	for r in ${router:-}; do ip route add default via "$r" dev "$interface"; done
	for d in ${dns:-}; do echo "nameserver $d"; done > /run/resolv.conf
	exit ;;
leasefail|nak) exit ;;
esac
ln -sf /run/resolv.conf /etc/resolv.conf
for word; do
	value=${word#*=}
	case $word in
	ip=*)
		ip addr add "${value#*,}" dev "${value%%,*}"
		ip link set "${value%%,*}" up ;;
	dhcp=*)
		ip link set "$value" up
		udhcpc -q -n -t 5 -T 1 -i "$value" -s /bin/net-guest || echo "net-guest: no address by DHCP" ;;
	beat) (while :; do echo "net-guest: beat"; sleep 1; done) & ;;
	*) echo "net-guest: expected a word it knows, got '$word'" ;;
	esac
done
exec net-peer serve 7000 "net-guest: ready"
