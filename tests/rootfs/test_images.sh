#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 120
#
# tests/images/mkroot.sh: the same bytes wherever it is made, the files it was given, errors that help.
# Alone: tests/rootfs/test_images.sh
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/results.sh
export PATH=$PATH:/sbin:/usr/sbin

for program in debugfs cpio /bin/busybox; do
	command -v $program > /dev/null || { skip images "$program is not installed"; exit 77; }
done
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkroot=tests/images/mkroot.sh
printf 'hello\n' > "$tmp/file"
chmod 750 "$tmp/file"

for kind in ext4 initrd; do
	one=$(MAYFLY_CACHE=$tmp/one $mkroot --$kind --file "$tmp/file:/opt/deep/file")
	two=$(MAYFLY_CACHE=$tmp/another/place $mkroot --$kind --file "$tmp/file:/opt/deep/file")
	check_equal "$kind: two caches, the same bytes" "$(sha256sum < "$one")" "$(sha256sum < "$two")"
	inode=$(stat -c %i "$one")
	check_equal "$kind: the second call takes it from the cache" "$one $inode" \
		"$(MAYFLY_CACHE=$tmp/one $mkroot --$kind --file "$tmp/file:/opt/deep/file") $(stat -c %i "$one")"
	other=$(MAYFLY_CACHE=$tmp/one $mkroot --$kind)
	[ "$other" != "$one" ] && ok "$kind: other files, another image" ||
		not_ok "$kind: other files, another image" "not $one" "$other"
	case $kind in
	ext4)
		check_equal "ext4: a file that was added" hello "$(debugfs -R 'cat /opt/deep/file' "$one" 2> /dev/null)"
		check_contains "ext4: its permission bits" "Mode:  0750" "$(debugfs -R 'stat /opt/deep/file' "$one" 2> /dev/null)"
		check_contains "ext4: it belongs to root" "User:     0   Group:     0" \
			"$(debugfs -R 'stat /opt/deep/file' "$one" 2> /dev/null)" ;;
	initrd)
		check_contains "initrd: a file that was added" "opt/deep/file" "$(cpio -t --quiet < "$one")" ;;
	esac
done

export MAYFLY_CACHE=$tmp/one
check_contains "--output makes a copy of the size asked for" "$((16 << 20))" \
	"$($mkroot --size 16 --output "$tmp/copy" > /dev/null && stat -c %s "$tmp/copy")"
out=$($mkroot --file "$tmp/none:/x" 2>&1)
check_equal "a missing file: status" 1 $?
check_contains "a missing file: says which" "$tmp/none" "$out"
out=$($mkroot --file "$tmp/file" 2>&1)
check_contains "a file without a place: says the form" "SRC:/DST" "$out"
out=$($mkroot --size 4 2>&1)
check_contains "too small: says the least" "at least 8 MiB" "$out"
image=$($mkroot --program cmp)
check_equal "a program: there, with its loader" "$(sha256sum < "$(command -v cmp)") $(sha256sum < /lib64/ld-linux-x86-64.so.2)" \
	"$(debugfs -R "cat $(command -v cmp)" "$image" 2> /dev/null | sha256sum) $(debugfs -R \
	'cat /lib64/ld-linux-x86-64.so.2' "$image" 2> /dev/null | sha256sum)"
out=$($mkroot --program no-such-program 2>&1)
check_contains "a missing program: says which" "no-such-program" "$out"
out=$($mkroot --frob 2>&1)
check_contains "unknown option: says which" "--frob" "$out"
check_equal "nothing half-made is left in the cache" "" "$(ls "$tmp/one/images" | grep '^part')"
finish
