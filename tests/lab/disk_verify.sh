# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_disk.sh: what is written is what is read back.

disk_mib=8
# Disks of the kinds asked for, one with each engine and cache type.
disks_of() { # DIRECTORY KINDS...
	local e c k path id where=$1
	shift
	n_disks=0
	[ -e "$tmp/base" ] || text_file "$tmp/base" $disk_mib 1
	base_sum=$(hash_of "$tmp/base")
	for k; do
		for e in Sync Async; do
			for c in Unsafe Writeback; do
				id=${k}_${e}_$c path=$where/$id
				case $k in
				raw) truncate -s ${disk_mib}M "$path"; disk "$id" "$path" $e $c '' ;;
				block) truncate -s ${disk_mib}M "$path"; loop_device "$path"; disk "$id" "$loop" $e $c '' ;;
				cow) disk "$id" "$tmp/base" $e $c "$path" ;;
				esac
				n_disks=$((n_disks + 1))
			done
		done
	done
}
# fio on all disks at once; then each is read by a new monitor, which must find the same.
verify() { # KERNEL VCPUS DIRECTORY KINDS...
	local sums n_disks kernel=$1
	vcpus=$2
	disk_guest "$kernel" <<-'END'
		disks=$(ls /sys/class/block | grep '^vd[c-z]')
		fio_jobs $disks > /run/jobs
		run_fio /run/jobs 'fio with verify on all disks'
		forget_cache
		for d in $disks; do mark $d $(md5 /dev/$d); done
	END
	disks_of "${@:3}"
	start_by_api
	guest_ends 240
	sums=$(tr -d '\r' <"$dir/out" | grep '^mark: ')
	expect 'disks that the guest saw' $n_disks "$(grep -c . <<<"$sums")"
	expect 'hash of the base' "$base_sum" "$(hash_of "$tmp/base")"
	[ -z "$failure" ] || return
	vcpus=1
	cp "$dir/out" "$dir/out.first"
	local saved=("${drives[@]}")
	disk_guest tuned <<-'END'
		for d in $(ls /sys/class/block | grep '^vd[c-z]'); do mark $d $(md5 /dev/$d); done
	END
	drives=("${drives[@]:0:2}" "${saved[@]:2}")
	start_by_api
	guest_ends 60
	expect 'hashes of the disks in a new microVM' "$sums" "$(tr -d '\r' <"$dir/out" | grep '^mark: ')"
	expect 'hash of the base, at the end' "$base_sum" "$(hash_of "$tmp/base")"
}
test_verify_tuned1() { verify tuned 1 "$dir" raw cow; }
test_verify_debian2() { ext4_dir "$dir/fs" 200; verify debian 2 "$dir/fs" block cow; }
test_verify_tuned4() { ext4_dir "$dir/fs" 200; verify tuned 4 "$dir/fs" raw cow; }
