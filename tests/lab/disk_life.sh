# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_disk.sh: what happens to a disk while its guest runs. The guest is told to go on through a disk without content, vdc: the
# host makes it N sectors long and sends PATCH, the guest waits for that size (`go N`).
signal_disk() { : >"$dir/signal"; disk signal "$dir/signal" Sync Unsafe ''; }
go() { # N
	truncate -s $((512 * $1)) "$dir/signal"
	patch signal "$dir/signal"
}
patch() { # ID PATH
	api PATCH "/drives/$1" "{\"drive_id\": \"$1\", \"path_on_host\": \"$2\"}"
	expect "reply to PATCH /drives/$1" 204 "$codes"
}
patch_limit() { # ID LIMITER
	api PATCH "/drives/$1" "{\"drive_id\": \"$1\", \"rate_limiter\": $2}"
	expect "reply to PATCH /drives/$1" 204 "$codes"
}
bucket() { echo "{\"size\": $1, \"refill_time\": $2${3:+, \"one_time_burst\": $3}}"; } # SIZE MS [BURST]
within() { # WHAT EXPECTED GOT PERCENT
	[ -n "$3" ] && [ $(($3 * 100)) -ge $(($2 * (100 - $4))) ] && [ $(($3 * 100)) -le $(($2 * (100 + $4))) ] ||
		expect "$1" "$2, within $4 %" "${3:-nothing}"
}
field() { # NAME OF: the number before the word NAME in a mark
	local words=($2) i
	for i in "${!words[@]}"; do [ "${words[i]}" != "$1" ] || echo "${words[i - 1]}"; done
}
used() { echo $(($(stat -c %b "$1") / 2)); } # PATH: KiB that it takes on the host

# The disk while it is written to: grown and looked at again, limited, let go, exchanged for another file.
test_patch() {
	local e
	vcpus=2
	disk_guest tuned <<-'END'
		for d in vdd vde; do disk-records churn /dev/$d 4 & done
		go 1
		for d in vdd vde; do await_value /sys/class/block/$d/size 32768; done
		for d in vdd vde; do yes last | dd of=/dev/$d bs=512 seek=32767 count=1 iflag=fullblock conv=fsync 2> /dev/null || bad "the last sector of $d" written not; done
		mark grown
		go 2
		kill %1 %2 || bad churning "still running" ended
		for d in vdd vde; do disk-records rate /dev/$d 4096 5000 & done
		wait
		mark limited
		go 3
		for d in vdd vde; do disk-records rate /dev/$d 4096 5000 1 & done
		wait
		mark free
		for d in vdd vde; do (while :; do cat /dev/$d > /dev/null; forget_cache; done) & done
		mark reading
		for d in vdd vde; do await_value /sys/class/block/$d/size 4096; done
		kill $(jobs -p)
		forget_cache
		for d in vdd vde; do mark $d $(md5 /dev/$d); done
	END
	signal_disk
	for e in Sync Async; do
		truncate -s 8M "$dir/$e"
		text_file "$dir/$e.other" 2 7
		disk $e "$dir/$e" $e Writeback ''
	done
	start_by_api
	await_text 'churning /dev/vdd' 30 && await_text 'churning /dev/vde' 30 || return
	for e in Sync Async; do truncate -s 16M "$dir/$e"; patch $e "$dir/$e"; done
	go 1
	await_text 'mark: grown' 30 || return
	for e in Sync Async; do
		expect "last sector of $e" "$(yes last | head -c 512 | md5sum)" "$(tail -c 512 "$dir/$e" | md5sum)"
		patch_limit $e "{\"ops\": $(bucket 6 300)}"
	done
	go 2
	await_text 'mark: limited' 30 || return
	# 20 a second, and what the bucket held at first: at most 6.
	within 'operations a second of Sync' 20 "$(field ops/s "$(told 'rate /dev/vdd')")" 15
	within 'operations a second of Async' 20 "$(field ops/s "$(told 'rate /dev/vde')")" 15
	for e in Sync Async; do patch_limit $e "{\"ops\": $(bucket 0 0)}"; done
	go 3
	await_text 'mark: free' 60 || return
	for e in vdd vde; do
		e=$(field ops/s "$(told "rate /dev/$e")")
		[ "${e:-0}" -gt 24 ] || expect 'operations a second without a limit' 'over 24' "${e:-none}"
	done
	await_text 'mark: reading' 30 || return
	for e in Sync Async; do patch $e "$dir/$e.other"; done
	guest_ends 60
	expect 'the other file behind Sync' "$(hash_of "$dir/Sync.other")" "$(told vdd)"
	expect 'the other file behind Async' "$(hash_of "$dir/Async.other")" "$(told vde)"
}

# A file without content that becomes a disk later, the pseudo-hotplug of container runtimes.
test_placeholder() {
	local e
	disk_guest debian <<-'END'
		for d in vdc vdd; do equal "sectors of $d" 0 $(sectors $d); dd if=/dev/$d of=/run/x bs=512 count=1 iflag=direct 2> /dev/null; [ ! -s /run/x ] || bad "read of $d" nothing data; done
		mark empty
		for d in vdc vdd; do await_value /sys/class/block/$d/size 8192; mark $d $(md5 /dev/$d); done
		mkdir /run/m
		works mkfs.ext4 -q /dev/vdd
		works mount /dev/vdd /run/m
		works cp /bin/busybox /run/m/x
		works umount /run/m
	END
	for e in Sync Async; do : >"$dir/$e"; disk $e "$dir/$e" $e Unsafe ''; done
	text_file "$dir/real" 4 3
	cp "$dir/real" "$dir/real2"
	start_by_api
	await_text 'mark: empty' 60 || return
	patch Sync "$dir/real"
	patch Async "$dir/real2"
	guest_ends 60
	expect 'the disk that came later (Sync)' "$(hash_of "$dir/real")" "$(told vdc)"
	expect 'the disk that came later (Async)' "$(hash_of "$dir/real")" "$(told vdd)"
	e2fsck -fn "$dir/real2" >"$dir/e2fsck" 2>&1 || expect_in 'e2fsck of the Async disk' clean "$dir/e2fsck"
}

# Bandwidth, operations and burst; and what the monitor does while all of them hold it back.
test_limits() {
	local e n=0 task ns turns before=0 wakes=0 a
	disk_guest tuned <<-'END'
		for d in vdd vde vdf vdg; do disk-records rate /dev/$d 65536 4000 & done
		for d in vdh vdi; do disk-records rate /dev/$d 4096 4000 & done
		mark begun
		wait
		for d in vdj; do disk-records rate /dev/$d 65536 60000 4 & done
		wait
		mark stopped
		(disk-records reads /dev/vdk 3 &)
		mark waiting
		go 1
	END
	signal_disk
	for e in d:Sync:"{\"bandwidth\": $(bucket 1310720 1000)}" e:Async:"{\"bandwidth\": $(bucket 1310720 1000)}" \
		f:Sync:"{\"bandwidth\": $(bucket 1048576 1000 2097152)}" g:Async:"{\"bandwidth\": $(bucket 1048576 1000 2097152)}" \
		h:Sync:"{\"ops\": $(bucket 50 1000)}" i:Async:"{\"ops\": $(bucket 50 1000)}" \
		j:Sync:"{\"bandwidth\": $(bucket 1000000 1000 4194304)}" k:Sync:"{\"ops\": $(bucket 1 20000)}"; do
		truncate -s 4M "$dir/${e%%:*}"
		a=${e#*:}
		disk "${e%%:*}" "$dir/${e%%:*}" "${a%%:*}" Unsafe '' ", \"rate_limiter\": ${a#*:}"
	done
	start_by_api
	await_text 'mark: stopped' 60 || return
	# 4 s at the refill rate, and what the bucket and the burst held at first.
	for e in vdd vde; do within "bytes/s of $e, limited to 1310720" $((1310720 + 1310720 / 4)) "$(field bytes/s "$(told "rate /dev/$e")")" 15; done
	for e in vdf vdg; do within "bytes/s of $e, 1 MiB/s and 3 MiB at once" $((1048576 + 3145728 / 4)) "$(field bytes/s "$(told "rate /dev/$e")")" 15; done
	for e in vdh vdi; do within "ops/s of $e, limited to 50" 62 "$(field ops/s "$(told "rate /dev/$e")")" 15; done
	a=$(field ms "$(told 'rate /dev/vdj')")
	[ "${a:-9999}" -le 1000 ] || expect '4 MiB within the burst' 'at most 1000 ms' "${a:-nothing}"
	await_text 'mark: waiting' 20 || return
	# Now a request waits 20 s for its turn: the I/O thread has a timer each 100 ms at most, and nothing else.
	nap 1
	read -r ns _ turns <"/proc/$pid/task/$pid/schedstat"
	nap 3
	read -r before _ wakes <"/proc/$pid/task/$pid/schedstat"
	[ $((wakes - turns)) -le 45 ] || expect 'turns of the I/O thread in 3 s of waiting' 'at most 45' $((wakes - turns))
	printf '    limits: the I/O thread had %d us in 3 s\n' $(((before - ns) / 1000))
	go 1
	guest_ends 40
}

# One disk hangs; another and the console go on. With the Sync engine it is slow only, as its I/O is done by the one I/O thread.
test_slow() {
	local n out
	vcpus=2
	disk_guest tuned <<-'END'
		(disk-records reads /dev/vdd 1000 > /run/slow.out 2>&1; mark slow over) &
		disk-records reads /dev/vde 200
		mark beside a slow disk
		kill %1
		go 1
		(disk-records reads /dev/vdf 3; mark frozen over) &
		disk-records reads /dev/vde 300
		for i in 1 2 3 4 5; do mark tick $i; usleep 100000; done
		mark beside a frozen disk
		wait %2
	END
	signal_disk
	truncate -s 4M "$dir/fast" "$dir/slow" "$dir/frozen"
	loop_device "$dir/slow"
	dm_device mayfly-slow "0 8192 delay $loop 0 20"
	loop_device "$dir/frozen"
	dm_device mayfly-frozen "0 8192 linear $loop 0"
	disk slow /dev/mapper/mayfly-slow Sync Unsafe ''
	disk fast "$dir/fast" Sync Unsafe ''
	disk frozen /dev/mapper/mayfly-frozen Async Unsafe ''
	start_by_api
	await_text 'beside a slow disk' 60 || return
	n=$(told 'reads /dev/vde')
	n=$(field ms, "$n")
	# Each of them waits for at most one of the slow disk's turns.
	[ "${n:-99999}" -le 10000 ] || expect '200 reads beside a slow disk' 'at most 10000 ms' "${n:-nothing}"
	dmsetup suspend --nolockfs mayfly-frozen
	go 1
	await_text 'beside a frozen disk' 30
	api GET / ''
	expect 'GET / beside a frozen disk' 200 "$codes"
	out=$(<"$dir/out")
	case $out in *'frozen over'*) expect 'reads of a frozen disk' 'none is over' 'an end' ;; esac
	dmsetup resume mayfly-frozen
	guest_ends 40
	expect_in console 'frozen over' "$dir/out"
}

# Space that the guest gives back, and zeros that it asks for.
test_discard() {
	local e k n letter=d devices='' paths=() p
	disk_guest debian <<-'END'
		disks=$(ls /sys/class/block | grep '^vd[d-z]')
		yes full | head -c 4194304 > /run/full
		for d in $disks; do dd if=/run/full of=/dev/$d bs=1M conv=fsync 2> /dev/null; done
		mark full
		go 1
		for d in $disks; do
			[ $(cat /sys/class/block/$d/queue/discard_max_bytes) -gt 0 ] || { bad "discard of $d" offered "not"; continue; }
			works /usr/sbin/blkdiscard -o 1048576 -l 2097152 /dev/$d
			forget_cache
			cp /run/full /run/want
			dd if=/dev/zero of=/run/want bs=1M seek=1 count=2 conv=notrunc 2> /dev/null
			cmp /run/want /dev/$d || bad "$d after blkdiscard" "zeros from 1 MiB on" "something else"
		done
		mark discarded
		go 2
		for d in $disks; do
			works /usr/sbin/blkdiscard -z -o 3146240 -l 525824 /dev/$d
			forget_cache
			cp /run/full /run/want
			dd if=/dev/zero of=/run/want bs=1M seek=1 count=2 conv=notrunc 2> /dev/null
			dd if=/dev/zero of=/run/want bs=512 seek=6145 count=1027 conv=notrunc 2> /dev/null
			cmp /run/want /dev/$d || bad "$d after blkdiscard -z" "zeros there" "something else"
			works mkfs.ext4 -q -O ^has_journal -E nodiscard /dev/$d
			mkdir -p /run/$d
			works mount /dev/$d /run/$d
			dd if=/dev/urandom of=/run/$d/x bs=1M count=2 2> /dev/null
			sync
			rm /run/$d/x
			sync
		done
		mark removed
		go 3
		for d in $disks; do works /usr/sbin/fstrim /run/$d; works umount /run/$d; done
	END
	signal_disk
	ext4_dir "$dir/fs" 200
	text_file "$dir/fs/base" 4 1
	cp "$dir/fs/base" "$dir/base"
	for k in raw block cow; do
		for e in Sync Async; do
			for p in "$dir" "$dir/fs"; do
				[ "$k$p" != "block$dir/fs" ] || continue
				n=${k}_$e
				paths+=("$p/$n")
				case $k in
				raw) truncate -s 4M "$p/$n"; disk "${n}_${#paths[@]}" "$p/$n" $e Writeback '' ;;
				block) truncate -s 4M "$p/$n"; loop_device "$p/$n"; disk "${n}_${#paths[@]}" "$loop" $e Writeback '' ;;
				cow) disk "${n}_${#paths[@]}" "$p/base" $e Writeback "$p/$n" ;;
				esac
			done
		done
	done
	start_by_api
	await_text 'mark: full' 60 || return
	sync
	for p in "${paths[@]}"; do n=$(used "$p"); [ "$n" -ge 4096 ] || expect "KiB of $p, full" 'at least 4096' "$n"; done
	go 1
	await_text 'mark: discarded' 60 || return
	sync
	for p in "${paths[@]}"; do n=$(used "$p"); [ "$n" -le 2200 ] || expect "KiB of $p, half of it discarded" 'at most 2200' "$n"; done
	go 2
	await_text 'mark: removed' 60 || return
	sync
	for p in "${paths[@]}"; do printf '%s %s\n' "$(used "$p")" "$p"; done >"$dir/before"
	go 3
	guest_ends 60
	sync
	while read -r n p; do
		[ "$(used "$p")" -le $((n - 2048 + 64)) ] || expect "KiB of $p after fstrim" "2048 less than $n" "$(used "$p")"
	done <"$dir/before"
	expect 'hashes of the bases' "$(text_file "$dir/again" 4 1; hash_of "$dir/again") $(hash_of "$dir/again")" "$(hash_of "$dir/base") $(hash_of "$dir/fs/base")"
}

# What a guest can and can't learn and do: a disk without writes, its name, a root found by its partition.
test_identity() {
	local id
	disk_guest tuned <<-'END'
		for d in vdc vdd; do
			equal "$d is read-only" 1 $(cat /sys/class/block/$d/ro)
			fails dd if=/dev/zero of=/dev/$d bs=512 count=1 oflag=direct
			mark $d $(md5 /dev/$d)
		done
		for d in vde vdf vdg; do mark serial-$d $(cat /sys/class/block/$d/serial); done
	END
	text_file "$dir/base" 4 1
	truncate -s 4M "$dir/e"
	loop_device "$dir/e"
	for id in Sync Async; do drive ro$id "$dir/base" false true ", \"io_engine\": \"$id\""; done
	disk e "$dir/e" Sync Unsafe ''
	disk f "$loop" Async Unsafe ''
	disk g "$dir/base" Sync Unsafe "$dir/g"
	start_by_api
	guest_ends 60
	for id in vdc vdd; do expect "read-only $id" "$(hash_of "$dir/base")" "$(told $id)"; done
	expect 'id of a file' "$(printf '%d%d%d' $(stat -c '%d %r %i' "$dir/e") | head -c 20)" "$(told serial-vde)"
	expect 'id of a block device' "$(printf '%d%d%d' $(stat -c '%d %r %i' "$loop") | head -c 20)" "$(told serial-vdf)"
	[ -n "$(told serial-vdg)" ] || expect 'id of a copy-on-write disk' 'one' 'none'
}

# The root is a partition of a copy-on-write disk: the kernel finds it, the guest changes it, the base stays as it is.
test_partuuid() {
	local sum n
	disk_guest tuned <<-'END'
		grep -q ' / ext4 rw' /proc/mounts || bad / 'ext4 rw' "$(grep ' / ' /proc/mounts)"
		cat /mine 2> /dev/null
		echo mark: written before > /mine
		sync
		mount -o remount,ro /
	END
	partitioned "$GUEST_TOOLS" "$dir/base"
	sum=$(hash_of "$dir/base")
	drives=("{\"drive_id\": \"root\", \"path_on_host\": \"$dir/base\", \"delta_path\": \"$dir/delta\", \"is_root_device\": true,
		\"partuuid\": \"$partuuid\", \"io_engine\": \"Async\", \"cache_type\": \"Writeback\"}" "${drives[1]}")
	start_by_api
	guest_ends 60
	start_by_api
	guest_ends 60
	expect_in 'console of the second start' 'mark: written before' "$dir/out"
	expect 'hash of the base' "$sum" "$(hash_of "$dir/base")"
	n=$(used "$dir/delta")
	[ "$n" -le 4096 ] || expect 'KiB of the delta' 'at most 4096' "$n"
}
