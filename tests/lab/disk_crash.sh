# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_disk.sh: what is left of a disk when the monitor is killed or the host loses power, who may have a delta open, and what a
# guest gains by writing the header of a disk format.

# Four disks with ext4, each with a writer of records and something that makes and removes files. At each start the last one's end is
# looked at first: the journal is replayed, the file system is in order, every record that was stable is there.
crash_guest() { # KERNEL LAST...: the last stable record of each disk, -1 for none
	local kernel=$1
	shift
	disk_guest "$kernel" < <(
		echo "set -- $*"
		cat <<-'END'
			for d in vdc vdd vde vdf; do
				mkdir -p /run/$d
				if [ $1 -lt 0 ]; then
					[ $1 = -2 ] || works mkfs.ext4 -q -J size=1 -E lazy_itable_init=0,lazy_journal_init=0 /dev/$d
				else
					works mount /dev/$d /run/$d
					disk-records check /run/$d/records $d $1
					works umount /run/$d
					works e2fsck -fn /dev/$d
				fi
				shift
				works mount /dev/$d /run/$d
			done
			mark looked
			for d in vdc vdd vde vdf; do
				disk-records write /run/$d/records $d &
				(cd /run/$d; n=0; while :; do n=$((n+1)); mkdir -p d$((n%7)); cp /bin/disk-records d$((n%7))/f$((n%5)); rm -rf d$(((n+3)%7)); sync -f . ; done) 2> /dev/null &
			done
			wait
		END
	)
	vcpus=2
}
crash_disks() { # DIRECTORY: one base for the two deltas
	truncate -s 12M "$1/raw-sync" "$1/raw-async"
	text_file "$1/base" 12 1
	drives=("${drives[@]:0:2}")
	disk raw_sync "$1/raw-sync" Sync Writeback ''
	disk raw_async "$1/raw-async" Async Writeback ''
	disk cow_sync "$1/base" Sync Writeback "$1/delta-sync"
	disk cow_async "$1/base" Async Writeback "$1/delta-async"
}
last_records() { # the last record of each disk that the guest told of
	local d n
	for d in vdc vdd vde vdf; do
		n=$(tr -d '\r' <"$dir/out" | sed -n "s/^rec $d \([0-9]*\)\$/\1/p" | tail -n 1)
		echo -n "${n:--1} "
	done
}
# Wait until each disk has records, and then up to @1 ms more; prints nothing. Sets `last` when the guest is gone or still.
some_records() { # MS
	local d
	await_text 'mark: looked' 60 || return
	for d in vdc vdd vde vdf; do await_text "rec $d" 30 || return; done
	nap "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
	[ -z "$(tr -d '\r' <"$dir/out" | grep '^bad: ')" ] || { findings; return 1; }
}

crash_kill() { # KERNEL TIMES
	local last='-1 -1 -1 -1' i sum
	RANDOM=4711
	for ((i = 0; i < $2; i++)); do
		crash_guest "$1" $last
		[ $i -gt 0 ] || mkdir "$dir/disks"
		if [ $i -eq 0 ]; then crash_disks "$dir/disks"; sum=$(hash_of "$dir/disks/base"); else drives=("${drives[@]:0:2}" "${crashed[@]}"); fi
		local crashed=("${drives[@]:2}")
		rm -f "$sock"
		start_by_api
		some_records $((RANDOM % 1500)) || return
		kill -KILL "$pid"
		await_end 10
		expect 'exit status' 137 "$status"
		last=$(last_records)
	done
	expect 'hash of the base' "$sum" "$(hash_of "$dir/disks/base")"
	# The last end, and then no crash.
	crash_guest tuned $last
	drives=("${drives[@]:0:2}" "${crashed[@]}")
	sed -i 's/^mark looked/umount \/run\/vd*; exit 0/' "$dir/script"
	rm -f "$sock"
	start_by_api
	guest_ends 60
	printf '    crash: records at the end: %s\n' "$last"
}
test_crash_tuned() { crash_kill tuned 5; }
test_crash_debian() { crash_kill debian 2; }

# The host loses power: what its disk holds at a moment is all there is. The host's file system is on a device that is stopped for the
# moment of the copy; what was only in the host's memory is not in it.
test_power_loss() {
	local last i n
	truncate -s 120M "$dir/host.img"
	loop_device "$dir/host.img"
	dm_device mayfly-power "0 $((120 * 2048)) linear $loop 0"
	mkdir -p "$dir/host" "$dir/after"
	mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/mapper/mayfly-power && mount /dev/mapper/mayfly-power "$dir/host"
	undo=("umount $dir/host" "${undo[@]}")
	crash_guest tuned -1 -1 -1 -1
	crash_disks "$dir/host"
	sync
	start_by_api
	for i in 1 2; do
		some_records 700 || return
		n=$(last_records) # stable before the moment
		dmsetup suspend --nolockfs mayfly-power
		cp --sparse=always "$dir/host.img" "$dir/after$i.img"
		dmsetup resume mayfly-power
		echo "$n" >"$dir/last$i"
	done
	kill -KILL "$pid"
	await_end 10
	for i in 1 2; do
		mount -o loop "$dir/after$i.img" "$dir/after" || expect "mount of the host's disk" done failed
		last=$(<"$dir/last$i")
		crash_guest tuned $last
		sed -i 's/^mark looked/umount \/run\/vd*; exit 0/' "$dir/script"
		drives=("${drives[@]:0:2}")
		disk raw_sync "$dir/after/raw-sync" Sync Writeback ''
		disk raw_async "$dir/after/raw-async" Async Writeback ''
		disk cow_sync "$dir/after/base" Sync Writeback "$dir/after/delta-sync"
		disk cow_async "$dir/after/base" Async Writeback "$dir/after/delta-async"
		rm -f "$sock"
		start_by_api
		guest_ends 60
		umount "$dir/after"
	done
}

# A delta has one owner, and one base.
test_delta_owner() {
	local second
	disk_guest tuned <<-'END'
		mark up
		sleep 1000
	END
	text_file "$dir/base" 4 1
	disk a "$dir/base" Sync Writeback "$dir/delta"
	disk b "$dir/base" Async Writeback "$dir/delta-b"
	start_by_api
	await_text 'mark: up' 60 || return
	second=$dir/second
	"$vmm" --api-sock "$second" --log-path "$dir/log2" >"$dir/out2" 2>&1 </dev/null &
	n=$!
	local first=$sock
	sock=$second
	await_socket
	api PUT /drives/a "${drives[2]}" PUT /drives/b "${drives[3]}"
	expect 'a second monitor on both deltas' '400 400' "$codes"
	expect_in 'its reply' "$dir/delta" "$dir/reply"
	# The first one's end frees them.
	kill -KILL "$pid"
	await_end 10
	api PUT /drives/a "${drives[2]}" PUT /drives/b "${drives[3]}"
	expect 'the same when the first has gone' '204 204' "$codes"
	kill -KILL $n
	wait $n 2>/dev/null
	# Another base: longer, or changed.
	text_file "$dir/base" 5 1
	rm -f "$second"
	"$vmm" --api-sock "$second" --log-path "$dir/log2" >"$dir/out2" 2>&1 </dev/null &
	n=$!
	await_socket
	api PUT /drives/a "${drives[2]}"
	expect 'a delta over a longer base' 400 "$codes"
	expect_in 'the reply' "$dir/delta" "$dir/reply"
	text_file "$dir/base" 4 2
	touch -d '+2 hours' "$dir/base"
	api PUT /drives/a "${drives[2]}"
	expect 'a delta over a changed base' 400 "$codes"
	expect_in 'the reply' "$dir/delta" "$dir/reply"
	kill -KILL $n
	wait $n 2>/dev/null
	sock=$first
}

# A guest writes what opens other files with a monitor that looks at disks. It stays data.
test_headers() {
	local n
	disk_guest tuned <<-'END'
		qcow2() { # version 2, backing file /etc/passwd
			printf 'QFI\373\0\0\0\2\0\0\0\0\0\0\2\0\0\0\0\13\0\0\0\20\0\0\0\0\0\100\0\0'
			head -c 480 /dev/zero
			printf '/etc/passwd'
			head -c 3573 /dev/zero
		}
		vmdk() {
			printf '# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8192 FLAT "/etc/passwd" 0\n'
			head -c 3973 /dev/zero
		}
		for d in vdc vdd vde vdf; do
			case $d in vdc|vde) qcow2 > /run/h ;; *) vmdk > /run/h ;; esac
			dd if=/run/h of=/dev/$d bs=4k conv=notrunc 2> /dev/null
			# The delta's own header, wherever it may be looked for.
			for at in 1 512 1023; do dd if=/dev/vdg of=/dev/$d bs=4k count=1 seek=$at conv=notrunc 2> /dev/null; done
			sync
			mark $d $(sectors $d) $(md5 /dev/$d)
		done
	END
	text_file "$dir/base" 4 1
	truncate -s 4M "$dir/c" "$dir/d"
	disk c "$dir/c" Sync Unsafe ''
	disk d "$dir/d" Async Unsafe ''
	disk e "$dir/base" Sync Unsafe "$dir/e"
	disk f "$dir/base" Async Unsafe "$dir/f"
	# Something to copy from: a delta as it is on the host.
	"$vmm" --api-sock "$dir/maker" >/dev/null 2>&1 </dev/null &
	n=$!
	local first=$sock
	sock=$dir/maker
	await_socket
	api PUT /drives/e "${drives[4]}"
	expect 'making a delta' 204 "$codes"
	kill -KILL $n
	wait $n 2>/dev/null
	sock=$first
	tail -c 65536 "$dir/e" >"$dir/g"
	grep -qaE '[^[:cntrl:]]{3}' "$dir/g" || cp "$dir/e" "$dir/g"
	drive g "$dir/g" false true
	start_by_api
	guest_ends 60
	n=$(tr -d '\r' <"$dir/out" | grep '^mark: vd')
	expect 'disks that were written' 4 "$(grep -c . <<<"$n")"
	cp "$dir/script" "$dir/script.first"
	local saved=("${drives[@]:2}")
	disk_guest tuned <<-'END'
		for d in vdc vdd vde vdf; do mark $d $(sectors $d) $(md5 /dev/$d); done
	END
	drives=("${drives[@]:0:2}" "${saved[@]}")
	rm -f "$sock"
	start_by_api
	guest_ends 60
	expect 'sizes and contents in a new microVM' "$n" "$(tr -d '\r' <"$dir/out" | grep '^mark: vd')"
}
