#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# /bin/patch-guest in the guest of test_patch.sh: all devices are busy until the end. Reads that end early or differ say "bad".
ip addr add 10.99.0.2/24 dev eth0
ip link set eth0 up
socat VSOCK-LISTEN:7000,fork EXEC:/bin/cat &
want=$(md5sum < /dev/vda)
(while :; do
	got=$(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | md5sum)
	[ "$got" = "$want" ] || echo "bad: the read-only disk: expected $want, got $got"
done) &
(while :; do
	dd if=/dev/zero of=/dev/vdb bs=64k count=64 conv=fsync 2>/dev/null || echo "bad: write"
	dd if=/dev/vdb of=/dev/null bs=4k iflag=direct 2>/dev/null || echo "bad: read"
done) &
ping -q -i 0.01 10.99.0.1 > /dev/null &
echo "patch-guest: ready"
wait
