# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_disk.sh: what is written is what is read back.

disk_mib=12
# Twelve disks: engine x cache type x kind, as far as ENGINES and KINDS let. Sets `devices`, the guest's names.
all_kinds() { # DIRECTORY
	local e c k path id letter=99
	devices=''
	[ -e "$tmp/base" ] || text_file "$tmp/base" $disk_mib 1
	base_sum=$(hash_of "$tmp/base")
	for k in ${KINDS:-raw block cow}; do
		for e in ${ENGINES:-Sync Async}; do
			for c in Unsafe Writeback; do
				id=${k}_${e}_$c path=$1/$id
				case $k in
				raw) truncate -s ${disk_mib}M "$path"; disk "$id" "$path" $e $c '' ;;
				block) truncate -s ${disk_mib}M "$path"; loop_device "$path"; disk "$id" "$loop" $e $c '' ;;
				cow) disk "$id" "$tmp/base" $e $c "$path" ;;
				esac
				devices+=" vd$(printf "\\$(printf %o $letter)")"
				letter=$((letter + 1))
			done
		done
	done
	devices=${devices# }
}
# fio on all disks at once; then each is read by a new monitor, which must find the same.
verify() { # KERNEL VCPUS DIRECTORY
	local sums
	vcpus=$2
	disk_guest "$1" <<-'END'
		disks=$(ls /sys/class/block | grep '^vd[c-z]')
		fio_jobs $disks > /run/jobs
		run_fio /run/jobs 'fio with verify on all disks'
		forget_cache
		for d in $disks; do mark $d $(md5 /dev/$d); done
	END
	all_kinds "$3"
	start_by_api
	guest_ends 120
	sums=$(tr -d '\r' <"$dir/out" | grep '^mark: ')
	expect 'disks that the guest saw' "$(wc -w <<<"$devices")" "$(grep -c . <<<"$sums")"
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
test_verify_tuned1() { verify tuned 1 "$dir"; }
test_verify_debian2() { ext4_dir "$dir/fs" 400; verify debian 2 "$dir/fs"; }
test_verify_tuned4() { ext4_dir "$dir/fs" 400; verify tuned 4 "$dir/fs"; }
